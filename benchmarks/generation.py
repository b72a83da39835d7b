"""Tokens/s of our decoding against transformers' generate, and how many rows come out otherwise in another batch, order, or after a kill.

    python -m benchmarks.generation [--shapes llama_1m llama_15m] [--batch 1 16 64 256] [--new-tokens 64] [--rounds 3] [--rows 10000]

Both write the same rows: prompts of 8 to 40 tokens, each row of the batch another, no end token, temperature 1. They take turns; the ratio
is of medians. Seconds are those of the CPU, on one thread: others on the machine count for little. The models
have random weights, the shapes of conf/model. --rows: of the first shape; 0 leaves that part out.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.generation.engine import Engine
    from harness.generation.rows import Draw, Generation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["llama_1m", "llama_15m"])
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 16, 64, 256])
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=10_000)
    given = parser.parse_args()

    import torch

    from harness.generation.rows import Limits

    torch.set_num_threads(1)
    limits = Limits(given.new_tokens)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        first, tokenizer = built(given.shapes[0], Path(folder))
        print("| shape | batch | generate, tokens/s | harness, tokens/s | ratio |")
        print("|---|---|---|---|---|")
        for shape in given.shapes:
            model = first if shape == given.shapes[0] else built(shape, Path(folder))[0]
            for batch in given.batch:
                theirs, ours = throughput(model, tokenizer, rows_of(tokenizer, batch), limits, rounds=given.rounds)
                print(f"| {shape} | {batch} | {theirs:,.0f} | {ours:,.0f} | {ours / theirs:.2f} |", flush=True)
        if given.rows:
            count_changes(first, tokenizer, rows_of(tokenizer, given.rows), limits)


def built(shape: str, folder: Path) -> tuple[Any, Any]:
    """A model of random weights, and a tokenizer for it."""
    import harness
    from harness.config.load import load
    from harness.data.byte_bpe import train_byte_bpe
    from harness.models.language_model import build_model
    from harness.models.tokenizer import load_tokenizer

    if not folder.joinpath("tokenizer").exists():
        sources = [file.read_text() for file in sorted(Path(harness.__file__).parent.rglob("*.py"))]
        train_byte_bpe(sources, 2048, folder / "tokenizer")
    evaluated = ["trainer.max_steps=0", "data.validation.none={path: " + str(folder / "tokenizer" / "tokenizer.json") + "}"]
    config = load([f"tokenizer.path={folder / 'tokenizer'}", f"model={shape}", *evaluated]).config
    tokenizer = load_tokenizer(config)
    model = build_model(config.model, tokenizer, seed=0).eval()
    # Every row is to be as long as the limit says: the only end token is none of the vocabulary, see `engine`.
    model.generation_config.eos_token_id = model.config.eos_token_id = tokenizer.eos_token = None
    return model, tokenizer


def rows_of(tokenizer: Any, count: int) -> list[Draw]:
    import torch

    from harness.generation.rows import Draw, Prompt

    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(8, 41, (count,), generator=generator).tolist()
    prompts = [torch.randint(3, len(tokenizer), (length,), generator=generator).tolist() for length in lengths]
    return [Draw(Prompt(str(number), "", tuple(ids)), 0) for number, ids in enumerate(prompts)]


def throughput(model: Any, tokenizer: Any, rows: Sequence[Draw], limits: Any, *, rounds: int) -> tuple[float, float]:
    """Tokens/s of generate and of ours."""
    from harness.generation.decode import padded_left

    ids, mask = padded_left([row.prompt.token_ids for row in rows], model.device)
    ours = engine(model, tokenizer, len(rows))

    def theirs() -> None:
        model.generate(
            ids,
            attention_mask=mask.long(),
            do_sample=True,
            top_k=0,
            temperature=1.0,
            max_new_tokens=limits.max_new_tokens,
            use_cache=True,
            pad_token_id=0,
        )

    arms: tuple[Callable[[], object], ...] = (theirs, lambda: list(ours.write(rows, limits)))
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for arm, taken in zip(arms, seconds, strict=True):
            began = time.process_time()
            arm()
            if turn:  # the first warms up
                taken.append(time.process_time() - began)
    tokens = len(rows) * limits.max_new_tokens
    return tokens / statistics.median(seconds[0]), tokens / statistics.median(seconds[1])


def engine(model: Any, tokenizer: Any, batch: int) -> Engine:
    from harness.config.schema import SamplingConfig
    from harness.generation.engine import Engine

    return Engine(model, tokenizer, SamplingConfig(), batch_tokens=1, batch_rows=batch, stop_token=len(tokenizer))


def count_changes(model: Any, tokenizer: Any, rows: Sequence[Draw], limits: Any) -> None:
    """How many rows are others than in batches of 64, in order."""
    expected = by_id(engine(model, tokenizer, 64).write(rows, limits))
    tokens = sum(len(text) for text in expected.values())
    print(f"\n{len(rows):,} rows, {tokens:,} tokens, in batches of 64; rows that are others")
    for name, batch, part in (
        ("in batches of 16", 16, list(rows)),
        ("in batches of 256, backwards", 256, list(reversed(rows))),
        ("the second half alone, as after a kill", 64, list(rows)[len(rows) // 2 :]),
    ):
        found = by_id(engine(model, tokenizer, batch).write(part, limits))
        changed = sum(expected[key] != text for key, text in found.items())
        print(f"{name}: {changed} of {len(found):,}", flush=True)


def by_id(texts: Iterable[Generation]) -> dict[str, tuple[int, ...]]:
    return {one.id: one.token_ids for one in texts}


if __name__ == "__main__":
    main()
