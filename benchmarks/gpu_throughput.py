"""Training tokens a second, model FLOPs utilisation and memory of a Llama of 1.1 B parameters on one GPU, bf16, packed.

    python -m benchmarks.gpu_throughput [--contexts 2048 8192] [--arms harness hf …] [--steps 6] [--peak 989]

The harness against Hugging Face's Trainer over the same packed rows and TRL's SFTTrainer, which packs the same documents itself
(bfd_split); each arm at its plainest and with what its users would turn on: Liger's kernels, torch.compile, block masks
(flex_attention). Every arm is a process of its own. All train in bf16-mixed with fused AdamW
and clipping, 32,768 tokens a step in micro-batches of 16,384; nothing is evaluated or saved. The documents are Python's own documentation
and source, cut at lognormal lengths (median 400 tokens, sigma 1.2).

FLOPs are those of the model: 6 for each weight that a token is multiplied by (the head is, the embedding is not), and in attention 12 times
the width for every pair of positions of one document, of which a causal model has half. What is computed twice is counted once. --peak:
TFLOP/s of the card in dense bf16, by its datasheet.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.training_throughput import WARM_UP_STEPS, Seconds, harness, hugging_face, planned, timed, trl
from benchmarks.workload import require, require_modules
from harness.config.load import load
from harness.config.schema import Config
from harness.data.byte_bpe import train_byte_bpe
from harness.data.stdlib_corpus import write_corpus
from harness.runs.files import append_json_line, read_json_lines

WIDTH, LAYERS, VOCABULARY = 2048, 22, 32_000
BATCH_TOKENS, MICRO_BATCH_TOKENS = 32_768, 16_384
CHARACTERS_A_TOKEN = 4

ARMS: dict[str, tuple[str, ...]] = {
    "harness": (),
    "harness-chunked": ("trainer.loss_chunk_tokens=2048",),
    "harness-sdpa": ("model.attention=sdpa",),
    "harness-compile": ("trainer.compile=true",),
    "harness-liger": ("model.liger=true",),
    "harness-liger-compile": ("model.liger=true", "trainer.compile=true"),
    "hf": ("model.attention=sdpa",),
    "hf-flex": ("model.attention=flex_attention",),
    "hf-liger": ("model.attention=sdpa",),
    "hf-flex-liger": ("model.attention=flex_attention",),
    "trl": ("model.attention=sdpa",),
    "trl-liger": ("model.attention=sdpa",),
    "trl-flex-liger": ("model.attention=flex_attention",),
}
"""Overrides of each; the model of the others is built by the harness as well."""


def configuration(arm: str, context_length: int, folder: Path, steps: int) -> Config:
    return load(
        [
            "model=pretrained",
            f"model.path={folder}/model",
            f"tokenizer.path={folder}/tokenizer",
            f"data.sources.text.path={folder}/text.jsonl",
            f"data.context_length={context_length}",
            f"trainer.batch_tokens={BATCH_TOKENS}",
            f"trainer.micro_batch_size={MICRO_BATCH_TOKENS // context_length}",
            f"trainer.max_steps={steps + WARM_UP_STEPS}",
            "trainer=gpu",
            "trainer.final_checkpoint=none",
            "tracking=none",
            *ARMS[arm],
        ]
    ).config


def run_arm(arm: str, config: Config, folder: Path) -> Seconds:
    if arm.startswith("harness"):
        return harness(config, folder / "run")
    build: Callable[..., Any] = trl if arm.startswith("trl") else hugging_face
    trainer = build(config, str(folder), use_liger_kernel="liger" in arm)
    return timed(trainer)


def flops_a_token(config: Config, parameters: int) -> float:
    """Of the model, forward and backward, over the documents as they are packed."""
    _, plan = planned(config)
    (source,) = plan.data.sources
    lengths = np.diff(source.documents.offsets).astype(float)
    whole, rest = np.divmod(lengths, config.data.context_length)
    pairs_a_token = float((whole * config.data.context_length**2 + rest**2).sum() / lengths.sum()) / 2
    return 6 * parameters + 12 * LAYERS * WIDTH * pairs_a_token


def prepare(folder: Path) -> int:
    """Text, tokenizer and model; returns how many weights every token is multiplied by."""
    from transformers import LlamaConfig, LlamaForCausalLM

    if not (folder / "tokenizer").exists():
        write_text(folder)
    shape = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=5632,
        num_hidden_layers=LAYERS,
        num_attention_heads=32,
        num_key_value_heads=4,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
    )
    with torch.device("cuda"):
        model = LlamaForCausalLM(shape)
    model.bfloat16().save_pretrained(folder / "model")
    return sum(p.numel() for name, p in model.named_parameters() if "embed_tokens" not in name)


def write_text(folder: Path) -> None:
    write_corpus(folder)
    text = "\n".join(row["text"] for name in ("english", "python") for row in read_json_lines(folder / f"{name}.jsonl"))
    generator = np.random.default_rng(0)
    start = 0
    while start < min(len(text), 4_000_000):
        length = int(generator.lognormal(np.log(400), 1.2) * CHARACTERS_A_TOKEN) + 1
        append_json_line(folder / "text.jsonl", {"text": text[start : start + length]})
        start += length
    train_byte_bpe([text[i : i + 10_000] for i in range(0, 4_000_000, 10_000)], VOCABULARY, folder / "tokenizer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", nargs="+", type=int, default=[2048, 8192])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--peak", type=float, default=989.0)
    parser.add_argument("--folder", type=Path, help="where text, tokenizer and model are kept; default: a temporary one")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds of an arm, all contexts")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        arm, folder, out = arguments.one
        measure_one(arm, arguments.contexts, Path(folder), Path(out), arguments.steps)
        return
    require(torch.cuda.is_available(), "a GPU")
    if any(arm.startswith("trl") for arm in arguments.arms):
        require_modules("trl", "datasets")
    if any("liger" in arm for arm in arguments.arms):
        require_modules("liger_kernel")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    print("| context | arm | tokens/s | model FLOPs utilisation | peak memory, GiB |")
    print("|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.folder or Path(name)
        os.environ["HARNESS_CACHE"] = f"{folder}/cache"
        parameters = prepare(folder)
        for arm in arguments.arms:
            out = Path(name) / f"{arm}.jsonl"
            options = ["--steps", str(arguments.steps), "--contexts", *map(str, arguments.contexts), "--one", arm, str(folder), str(out)]
            problem = run_process(["-m", "benchmarks.gpu_throughput", *options], arguments.limit)
            for row in read_json_lines(out) if out.exists() else []:
                flops = flops_a_token(configuration(arm, row["context"], folder, arguments.steps), parameters)
                share = row["tokens_per_second"] * flops / (arguments.peak * 1e12)
                print(f"| {row['context']:,} | {arm} | {row['tokens_per_second']:,.0f} | {share:.3f} | {row['peak_gib']:.1f} |", flush=True)
            if problem:
                print(f"{arm}: {problem}", flush=True)


def run_process(arguments: list[str], limit: float) -> str:
    """Why Python did not do it, or nothing."""
    try:
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        return f"not done after {limit:.0f} s"
    return done.stderr.strip()[-600:] if done.returncode else ""


def measure_one(arm: str, contexts: list[int], folder: Path, out: Path, steps: int) -> None:
    for context in contexts:
        torch.cuda.reset_peak_memory_stats()
        with tempfile.TemporaryDirectory(dir=folder) as place:
            wall, _ = run_arm(arm, configuration(arm, context, folder, steps), Path(place))
        speed = steps * BATCH_TOKENS / wall
        append_json_line(out, {"context": context, "tokens_per_second": speed, "peak_gib": torch.cuda.max_memory_allocated() / 2**30})
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
