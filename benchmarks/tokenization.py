"""How fast files become packed rows, against datasets.map and TRL's packing in the same run; and what that takes of memory.

    python -m benchmarks.tokenization [FILE.jsonl[.gz] ...] [--tokenizer DIRECTORY] [--megabytes 100] [--rounds 1]

The documents of the files (without any: the standard library's text) are repeated, each time under another number, up to the given size.
Every measurement is a process of its own with an empty cache; the clock starts after its imports. Target: >= 5 times the tokens/s of
`datasets.load_dataset`, `map(batched=True)` and `trl.pack_dataset`, and a peak of memory that does not grow with the text.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.workload import peak_mebibytes, require_modules

CONTEXT_LENGTH = 2048
VOCABULARY = 4096
"""Of the tokenizer that is trained when none is given."""
REFERENCES = {"batched": "datasets.map(batched=True) + trl", "processes": "the same, num_proc = cores", "single": "datasets.map + trl"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--references", nargs="*", choices=REFERENCES, default=["batched"])
    parser.add_argument("--measure", nargs=3, metavar=("WHAT", "TEXT", "TOKENIZER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        what, text, tokenizer = arguments.measure
        print(json.dumps(harness(text, tokenizer) if what == "harness" else reference(text, tokenizer, what)))
        return
    if arguments.references:
        require_modules("datasets", "trl")
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        texts = list(documents(arguments.files, directory))
        tokenizer = arguments.tokenizer or trained(texts, directory / "tokenizer")
        whole, tenth = directory / "whole.jsonl", directory / "tenth.jsonl"
        write(texts, whole, arguments.megabytes)
        write(texts, tenth, arguments.megabytes / 10)
        print(f"{whole.stat().st_size / 1e6:.0f} MB, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, rows of {CONTEXT_LENGTH}\n")
        print("| what | tokens | rows | seconds | tokens/s | ratio | parts (s) | peak MiB |\n|---|---|---|---|---|---|---|---|")
        variants = ["harness", *arguments.references]
        found = {what: [measured(what, whole, tokenizer) for _ in range(arguments.rounds)] for what in variants}
        fastest = median(found["harness"])["seconds"]
        for what, runs in found.items():
            show(REFERENCES.get(what, what), median(runs), fastest)
        show("harness, a tenth of the text", measured("harness", tenth, tokenizer), None)


def documents(files: list[Path], directory: Path) -> Iterator[str]:
    """The texts of the files, or of the standard library."""
    if not files:
        from harness.data.stdlib_corpus import write_corpus

        (directory / "stdlib").mkdir()
        write_corpus(directory / "stdlib")
        files = sorted((directory / "stdlib").glob("*.jsonl"))
    for file in files:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
            yield from (json.loads(line)["text"] for line in stream)


def trained(texts: list[str], directory: Path) -> Path:
    from harness.data.byte_bpe import train_byte_bpe

    directory.mkdir()
    train_byte_bpe(texts, VOCABULARY, directory)
    return directory


def write(texts: list[str], path: Path, megabytes: float) -> None:
    """The texts over and over, each time under another number: no two documents are the same."""
    with path.open("wb") as stream:
        for number in count():
            for text in texts:
                stream.write(json.dumps({"text": f"{number} {text}"}, ensure_ascii=False).encode() + b"\n")
                if stream.tell() >= megabytes * 1e6:
                    return


def measured(what: str, text: Path, tokenizer: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=text.parent) as cache:
        # One thread of OpenMP must not mean one thread of tokenizers.
        environment = {**os.environ, "HF_DATASETS_CACHE": cache, "HF_HUB_OFFLINE": "1", "HARNESS_CACHE": cache}
        command = [sys.executable, "-m", "benchmarks.tokenization", "--measure", what, str(text), str(tokenizer)]
        done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def harness(text: str, directory: str) -> dict[str, Any]:
    from transformers import AutoTokenizer

    from harness.data.packing import pack
    from harness.data.text_encoder import TextEncoder
    from harness.data.token_cache import tokenize
    from harness.runs.cache import default_cache_dir

    tokenizer = AutoTokenizer.from_pretrained(directory)
    clock = Clock()
    encoder = TextEncoder(tokenizer, append_eos=True)
    tokens = tokenize([Path(text)], "text", encoder, cache_dir=default_cache_dir(None), key="data.sources.text")
    clock.lap("tokenize")
    packing = pack(tokens.lengths, CONTEXT_LENGTH, "best_fit", "split")
    clock.lap("pack")
    return {"tokens": packing.tokens, "rows": packing.rows, **clock.result()}


def reference(text: str, directory: str, what: str) -> dict[str, Any]:
    from datasets import load_dataset
    from transformers import AutoTokenizer
    from trl import pack_dataset

    tokenizer = AutoTokenizer.from_pretrained(directory)
    end = tokenizer.eos_token or ""
    clock = Clock()
    dataset = load_dataset("json", data_files=text, split="train")
    clock.lap("load")
    if what == "single":  # as TRL's SFTTrainer does it
        dataset = dataset.map(lambda row: {"input_ids": tokenizer(row["text"] + end)["input_ids"]}, remove_columns=["text"])
    else:
        dataset = dataset.map(
            lambda rows: {"input_ids": tokenizer([one + end for one in rows["text"]])["input_ids"]},
            batched=True,
            remove_columns=["text"],
            num_proc=os.cpu_count() if what == "processes" else None,
        )
    clock.lap("map")
    dataset = pack_dataset(dataset, CONTEXT_LENGTH, strategy="bfd_split")
    clock.lap("pack")
    result = clock.result()
    import pyarrow.compute as pc

    tokens = sum(pc.sum(pc.list_value_length(chunk)).as_py() for chunk in dataset.data["input_ids"].chunks)
    return {"tokens": tokens, "rows": len(dataset), **result}


class Clock:
    """Seconds by part."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self.began = time.perf_counter()

    def lap(self, part: str) -> None:
        self.parts[part] = time.perf_counter() - self.began - sum(self.parts.values())

    def result(self) -> dict[str, Any]:
        return {"seconds": sum(self.parts.values()), "parts": self.parts, "peak": peak_mebibytes()}


def median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    middle = statistics.median_low(run["seconds"] for run in runs)
    return next(run for run in runs if run["seconds"] == middle)


def show(what: str, run: dict[str, Any], fastest: float | None) -> None:
    parts = ", ".join(f"{part} {seconds:.2f}" for part, seconds in run["parts"].items())
    ratio = "" if fastest is None else f"{run['seconds'] / fastest:.2f}"
    print(
        f"| {what} | {run['tokens']:,} | {run['rows']:,} | {run['seconds']:.2f} | {run['tokens'] / run['seconds']:,.0f} | {ratio} | "
        f"{parts} | {run['peak']:.0f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
