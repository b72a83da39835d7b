"""Learning from pairs: training tokens a second in packed rows against a bare PyTorch loop over padded batches, and against TRL's
DPOTrainer where it is installed; what sharing the prompts saves; and the reference's cost.

    python -m benchmarks.preferences [--pairs 512] [--steps 8] [--rounds 3] [--model llama_1m]

All train the same model by dpo on the same pairs in float32, about as many a step, with fused AdamW and clipping, in one process and by
turns, on one CPU thread; all have the reference's log-probabilities beforehand. The loop pads both answers of its pairs to the longest of a
micro-batch, needs no attention mask, and logs nothing; TRL pads so, too, with a mask. Answers have lognormal lengths (median 60 tokens,
sigma 0.8), prompts 30 to 80. Printed are positions computed a token, tokens a second by the median of the rounds (tokens of both answers,
each with its prompt, also where it is read once), and the medians of the rounds' ratios to the first arm, of wall and of CPU time, which
others on the machine disturb less; the seconds that the reference took to read all pairs, and the bytes of what is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.training_throughput import WARM_UP_STEPS, Seconds, harness, now, planned, settings, since, timed
from harness.config.load import load
from harness.config.schema import Config
from harness.data.byte_bpe import train_byte_bpe
from harness.data.preference.shared_prompt import shared_prompts
from harness.data.ragged import spans
from harness.data.training_data import PackedSource
from harness.models.language_model import build_model
from harness.models.tokenizer import load_tokenizer
from harness.optim.build import parameter_groups
from harness.training.objectives.build import build_objective

WORDS = [f"{first}{second}" for first in ("ba", "ko", "mi", "tu", "re") for second in ("la", "no", "si", "vu", "de", "ra")]
PAIRS_A_MICRO_BATCH = 4
BETA = 0.1

Arm = Callable[[int], tuple[Seconds, int, int]]
"""Runs once more: seconds of the timed steps, and their tokens and positions."""


def write_pairs(path: Path, count: int) -> None:
    """Pairs of plain text of so many words, each about a token."""
    drawn = np.random.default_rng(0)
    with path.open("w") as stream:
        for _ in range(count):
            lengths = [drawn.integers(30, 81), *np.clip(drawn.lognormal(np.log(60), 0.8, size=2), 4, 400).astype(int)]
            texts = [" ".join(drawn.choice(WORDS, size=length).tolist()) for length in lengths]
            stream.write(json.dumps({"prompt": texts[0], "chosen": f" {texts[1]}", "rejected": f" {texts[2]}"}) + "\n")


def configuration(folder: Path, model: str, steps: int, *more: str) -> Config:
    return load(
        [
            *more,
            f"model={model}",
            "model.max_context=1024",
            "objective=preference",
            f"objective.beta={BETA}",
            f"tokenizer.path={folder}/tokenizer",
            f"data.sources.pairs.path={folder}/pairs.jsonl",
            "data.sources.pairs.format=preference_text",
            "data.context_length=1024",
            "trainer.batch_tokens=4096",
            f"trainer.max_steps={steps + WARM_UP_STEPS}",
            "trainer.threads=1",
            "trainer.accelerator=cpu",
            "trainer.final_checkpoint=none",
            "tracking=none",
        ]
    ).config


def padded(source: PackedSource, pairs: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Both answers of these pairs (int64[p]), padded on the right to the longest: input_ids and labels, int64 [2 p, L]."""
    documents = source.documents
    assert documents.trained is not None
    index = (2 * pairs[:, None] + np.arange(2)).reshape(-1)
    lengths = documents.lengths[index]
    shape = len(index), int(lengths.max())
    ids, labels = np.zeros(shape, dtype=np.int64), np.full(shape, -100, dtype=np.int64)
    tokens = spans(documents.offsets[index], lengths)
    place = spans(np.arange(len(index)) * shape[1], lengths)
    ids.reshape(-1)[place] = documents.tokens[tokens]
    labels.reshape(-1)[place] = np.where(documents.trained[tokens], documents.tokens[tokens].astype(np.int64), -100)
    return torch.from_numpy(ids[:, :-1]), torch.from_numpy(labels[:, 1:])


def packed(config: Config, folder: Path) -> Arm:
    """train(): of its timed steps the tokens of both answers, each with its prompt, and the positions of their rows."""
    _, plan = planned(config)
    first, end = (int(plan.batch_size.rows_before(plan.steps)[step]) for step in (WARM_UP_STEPS, plan.steps))
    [source] = plan.data.sources
    _, rows = plan.data.order.rows(first, end)
    documents = source.packing.piece_document[source.packing.pieces_of(rows)]
    sizes = int(source.documents.lengths[documents].sum()), (end - first) * plan.data.context_length
    return lambda number: (harness(config, folder / f"{config.data.share_prompt}-{number}"), *sizes)


def trl(config: Config, folder: Path, pairs_a_step: int) -> tuple[Seconds, int, int]:
    """trl.DPOTrainer over the same pairs, whose reference it reads before it is timed: seconds, tokens and positions as of `bare`."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    tokenizer = load_tokenizer(config)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    own = settings(config, str(folder)) | {
        "per_device_train_batch_size": PAIRS_A_MICRO_BATCH,
        "gradient_accumulation_steps": max(1, round(pairs_a_step / PAIRS_A_MICRO_BATCH)),
    }
    trainer = DPOTrainer(
        model=build_model(config.model, tokenizer, seed=config.seed),
        args=DPOConfig(**own, beta=BETA, precompute_ref_log_probs=True, max_length=None),
        train_dataset=Dataset.from_json(config.data.sources["pairs"].path, cache_dir=str(folder)),
        processing_class=tokenizer,
    )
    tokens = positions = 0
    step = trainer.training_step

    def counted(model: Any, inputs: dict[str, torch.Tensor], *others: Any) -> torch.Tensor:
        nonlocal tokens, positions
        if trainer.state.global_step >= WARM_UP_STEPS:
            tokens += int(inputs["attention_mask"].sum())
            positions += inputs["input_ids"].numel()
        loss: torch.Tensor = step(model, inputs, *others)
        return loss

    trainer.training_step = counted
    return timed(trainer), tokens, positions


def bare(config: Config, source: PackedSource, reference: np.ndarray, pairs_a_step: int) -> tuple[Seconds, int, int]:
    """A loop over padded batches: seconds of its timed steps, and their tokens and positions."""
    model = build_model(config.model, load_tokenizer(config), seed=config.seed)
    groups = parameter_groups(config.optim, model)
    optimizer = torch.optim.AdamW(groups, lr=config.optim.lr, betas=config.optim.betas, eps=config.optim.eps, fused=True)
    order = np.random.default_rng(1).permutation(source.documents.documents // 2)
    start, tokens, positions = now(), 0, 0
    assert config.trainer.max_steps is not None
    for step in range(config.trainer.max_steps):
        if step == WARM_UP_STEPS:
            start, tokens, positions = now(), 0, 0
        chosen = np.take(order, np.arange(step * pairs_a_step, (step + 1) * pairs_a_step), mode="wrap")
        for some in np.array_split(chosen, -(-pairs_a_step // PAIRS_A_MICRO_BATCH)):
            ids, labels = padded(source, some)
            logits = model(input_ids=ids, use_cache=False).logits
            losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="none")
            logps = -losses.view(labels.shape).sum(dim=1)
            known = torch.from_numpy(reference[(2 * some[:, None] + np.arange(2)).reshape(-1)].astype(np.float32))
            shift = logps - known
            (F.softplus(-BETA * (shift[0::2] - shift[1::2])).sum() / pairs_a_step).backward()
            tokens += int(source.documents.lengths[2 * some].sum() + source.documents.lengths[2 * some + 1].sum())
            positions += ids.numel()
        assert config.optim.gradient_clip_norm is not None
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optim.gradient_clip_norm)
        optimizer.step()
        optimizer.zero_grad()
    return since(start), tokens, positions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="llama_1m")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HARNESS_CACHE"] = f"{folder}/cache"
        write_pairs(folder / "pairs.jsonl", arguments.pairs)
        train_byte_bpe([" ".join(WORDS) for _ in range(8)], 512, folder / "tokenizer")
        config, sharing = (
            configuration(folder, arguments.model, arguments.steps, f"data.share_prompt={shared}") for shared in ("false", "true")
        )
        tokenizer, plan = planned(config)
        begun = now()
        data = build_objective(config).prepare(plan.data, tokenizer)
        wall, cpu = since(begun)
        [source] = data.sources
        assert source.reference is not None
        reference = np.asarray(source.reference)
        pairs, kept = source.documents.documents // 2, sum(path.stat().st_size for path in folder.glob("cache/reference/*/logps.bin"))
        tokens = int(source.documents.offsets[-1])
        shared = int(shared_prompts(source.documents).sum())
        print(f"reference: {cpu:.1f} s of CPU time, {wall:.1f} s, for {pairs:,} pairs of {tokens:,} tokens, {kept:,} bytes kept")
        print(f"prompts read once: {shared:,} tokens less ({shared / tokens:.1%})")
        pairs_a_step = round(float(plan.targets.mean()))
        arms: dict[str, Arm] = {
            "harness, packed": packed(config, folder),
            "harness, prompts shared": packed(sharing, folder),
            "loop, padded": lambda number: bare(config, source, reference, pairs_a_step),
        }
        if find_spec("trl"):
            arms["TRL DPOTrainer"] = lambda number: trl(config, folder / f"trl-{number}", pairs_a_step)
        measured = by_turns(arms, arguments.rounds)
        print(f"about {pairs_a_step} pairs a step, {arguments.steps} steps, {arguments.rounds} rounds, load {os.getloadavg()[0]:.1f}\n")
        print("| arm | positions a token | tokens/s | tokens/s of CPU time | harness / arm, wall | CPU |\n|---|---|---|---|---|---|")
        own = [[tokens / taken for taken in seconds] for seconds, tokens, _ in measured["harness, packed"]]
        for label, found in measured.items():
            speeds = [[tokens / taken for taken in seconds] for seconds, tokens, _ in found]
            wall, cpu = (statistics.median(speed[kind] for speed in speeds) for kind in (0, 1))
            ratios = [statistics.median(one[kind] / other[kind] for one, other in zip(own, speeds, strict=True)) for kind in (0, 1)]
            density = statistics.median(positions / tokens for _, tokens, positions in found)
            print(f"| {label} | {density:.2f} | {wall:,.0f} | {cpu:,.0f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")


def by_turns(arms: dict[str, Arm], rounds: int) -> dict[str, list[tuple[Seconds, int, int]]]:
    """What each arm says in each round; who comes after whom changes, since what an arm leaves behind costs the next."""
    measured: dict[str, list[tuple[Seconds, int, int]]] = {label: [] for label in arms}
    order = list(arms)
    for number in range(rounds + 1):
        order = order[1:] + order[:1]
        for label in order:
            found = arms[label](number)
            measured[label] += [found] if number else []  # the first round warms up
    return measured


if __name__ == "__main__":
    main()
