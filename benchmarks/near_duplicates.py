"""Near duplicates by MinHash: seconds, the error of its estimates, what buckets alone would delete; beside datasketch, if there is one.

    python -m benchmarks.near_duplicates [FILE --fields instruction input response] [--rows 6000] [--jaccard 0.7] [--ngram 5]

FILE: rows of data (jsonl, also .gz; Parquet, …), whose fields are joined by line breaks; without one, rows are made of templates, every
tenth with a few other words than an earlier one. Seconds are those of the CPU, on one thread.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from harness.data.rows import read_rows
from harness.synthesis.near_duplicates import BANDS, buckets_of, jaccard_of, near_duplicates, shingles_of, signatures

MOST_PAIRS = 100_000
"""Of which the error is taken."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--fields", nargs="+", default=["text"])
    parser.add_argument("--rows", type=int, default=6_000)
    parser.add_argument("--jaccard", type=float, default=0.7)
    parser.add_argument("--ngram", type=int, default=5)
    given = parser.parse_args()
    texts = made_texts(given.rows) if given.file is None else texts_of(given.file, given.fields, given.rows)

    began = time.process_time()
    found = near_duplicates(texts, given.jaccard, given.ngram)
    print(f"{len(texts):,} rows: {time.process_time() - began:.2f} s; {len(found):,} go at a Jaccard similarity of {given.jaccard:g}")
    show_datasketch(texts, given.ngram)

    sets = [shingles_of(text, given.ngram) for text in texts]
    signed = signatures(sets)
    members = [frozenset(one.tolist()) for one in sets]
    buckets: dict[tuple[int, bytes], list[int]] = {}
    for index, bands in enumerate(buckets_of(signed)):
        for band in bands:
            buckets.setdefault(band, []).append(index)
    pairs = {(first, second) for rows in buckets.values() for place, second in enumerate(rows) for first in rows[:place]}
    similar = sum(jaccard_of(members[a], members[b]) >= given.jaccard for a, b in pairs)
    print(f"pairs that share one of {BANDS} buckets: {len(pairs):,}, of which {similar:,} are so similar")
    print(f"by buckets alone {len({later for _, later in pairs}):,} rows would go")
    chosen = random.Random(0).sample(sorted(pairs), min(MOST_PAIRS, len(pairs)))
    errors = [abs(float((signed[a] == signed[b]).mean()) - jaccard_of(members[a], members[b])) for a, b in chosen]
    print(f"mean error of the estimate over these pairs: {statistics.fmean(errors) if errors else 0:.3f}")


def texts_of(file: Path, fields: Sequence[str], most: int) -> list[str]:
    rows = read_rows(file, fields, key="FILE")
    return ["\n".join(str(row.values.get(field) or "") for field in fields) for row in islice(rows, most)]


def made_texts(rows: int) -> list[str]:
    """Rows of a hundred templates of 40 words with 20 words of their own."""
    chance = random.Random(0)
    words = [f"w{number}" for number in range(5_000)]
    templates = [chance.choices(words, k=40) for _ in range(100)]
    texts: list[list[str]] = []
    for number in range(rows):
        if number % 10 == 9:
            text = list(texts[chance.randrange(len(texts))])
            for _ in range(chance.randrange(4)):
                text[chance.randrange(len(text))] = chance.choice(words)
        else:
            text = [*chance.choice(templates), *chance.choices(words, k=20)]
        texts.append(text)
    return [" ".join(text) for text in texts]


def show_datasketch(texts: Sequence[str], ngram: int) -> None:
    """Seconds of the same signatures and buckets by datasketch."""
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError:
        print("datasketch is not installed")
        return
    began = time.process_time()
    index = MinHashLSH(num_perm=112, params=(14, 8))
    for number, text in enumerate(texts):
        words = text.lower().split()
        signature = MinHash(num_perm=112)
        signature.update_batch([" ".join(words[start : start + ngram]).encode() for start in range(max(1, len(words) - ngram + 1))])
        index.query(signature)
        index.insert(number, signature)
    print(f"datasketch, buckets alone: {time.process_time() - began:.2f} s")


if __name__ == "__main__":
    main()
