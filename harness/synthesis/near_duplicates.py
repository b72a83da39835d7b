"""Near duplicates: texts whose sets of shingles, n words in a row, have at least a given Jaccard similarity.

MinHash with banding (Broder 1997; Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3) proposes pairs, and the sets
themselves decide: in texts of one template most pairs that share a bucket are no duplicates. A pair is proposed with the chance
1 - (1 - J^8)^14: 0.56 at a similarity J of 0.7, 0.92 at 0.8, 0.9996 at 0.9, and always where the sets are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.synthesis.words import Hashes, run_hashes, words_of

BANDS, BAND_ROWS = 14, 8
CHUNK_SHINGLES = 1 << 20
"""How many are hashed at once: 8 MB for each array."""
NO_SHINGLE = np.uint32(0xFFFFFFFF)


@dataclass(frozen=True)
class NearDuplicate:
    """A text that goes."""

    index: int
    of: int
    """Of the earlier text that stays."""
    jaccard: float


def near_duplicates(texts: Sequence[str], jaccard: float, ngram: int) -> list[NearDuplicate]:
    """Which texts repeat an earlier one that stays, in order.

    Texts are taken in their order: the first stays, and each later one unless its similarity to one that stays is at least `jaccard`. So
    the result depends on the texts and their order alone, and a chain of small changes is not one cluster. Of several that stay it is said
    to repeat the most similar one, the first of equals.
    """
    shingles = [shingles_of(text, ngram) for text in texts]
    sets: dict[int, frozenset[int]] = {}
    buckets: dict[tuple[int, bytes], list[int]] = {}
    found = []
    for index, bands in enumerate(buckets_of(signatures(shingles))):
        near = {other for band in bands for other in buckets.get(band, ())}
        mine = frozenset(shingles[index].tolist()) if near else frozenset[int]()
        best = None
        for other in sorted(near):
            if other not in sets:
                sets[other] = frozenset(shingles[other].tolist())
            similarity = jaccard_of(mine, sets[other])
            if similarity >= jaccard and (best is None or similarity > best.jaccard):
                best = NearDuplicate(index, other, similarity)
        if best is not None:
            found.append(best)
            continue
        for band in bands:
            buckets.setdefault(band, []).append(index)
    return found


def jaccard_of(a: frozenset[int], b: frozenset[int]) -> float:
    """Common members over all members; 1 for two empty sets."""
    common = len(a & b)
    return common / (len(a) + len(b) - common) if a or b else 1.0


def shingles_of(text: str, ngram: int) -> Hashes:
    """Hashes of the different shingles of a text, so many words each, sorted: uint64 [shingles]. A text of fewer words is one shingle,
    one without words has none."""
    words = words_of(text)
    return np.unique(run_hashes(words, min(ngram, len(words)))) if words else np.empty(0, dtype=np.uint64)


def signatures(shingles: Sequence[Hashes]) -> NDArray[np.uint32]:
    """MinHash signatures, uint32 [texts, 112]: the share of places at which two agree estimates the Jaccard similarity of their sets.

    A hash function is (a h mod 2^64) >> 32 with an odd a of 64 bits (Dietzfelbinger et al. 1997). With an a of 32 bits it would grow with
    h for small h, and all functions would choose the same shingle.
    """
    multipliers = np.random.default_rng(20).integers(0, 1 << 64, size=BANDS * BAND_ROWS, dtype=np.uint64) | np.uint64(1)
    found = np.full((len(shingles), len(multipliers)), NO_SHINGLE)
    for first, last in _chunks([len(one) for one in shingles]):
        filled = [index for index in range(first, last) if len(shingles[index])]
        if not filled:
            continue
        together = np.concatenate([shingles[index] for index in filled])
        starts = np.cumsum([0, *(len(shingles[index]) for index in filled[:-1])])
        for column, multiplier in enumerate(multipliers):
            hashed = ((together * multiplier) >> np.uint64(32)).astype(np.uint32)
            found[filled, column] = np.minimum.reduceat(hashed, starts)
    return found


def _chunks(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ranges of texts with about so many shingles."""
    first, shingles = 0, 0
    for index, size in enumerate(sizes):
        shingles += size
        if shingles >= CHUNK_SHINGLES:
            yield first, index + 1
            first, shingles = index + 1, 0
    yield first, len(sizes)


def buckets_of(signatures: NDArray[np.uint32]) -> Iterable[list[tuple[int, bytes]]]:
    """Of each text, its buckets: the number of a band, and what it holds."""
    width = BAND_ROWS * signatures.itemsize
    for row in signatures:
        content = row.tobytes()
        yield [(band, content[band * width : (band + 1) * width]) for band in range(BANDS)]
