"""Training tokens a second: the harness's train() against a bare PyTorch loop that does the same work.

    python benchmarks/training_throughput.py [--threads 1] [--rounds 5]

Both train the same model on the same packed rows with position ids, fused AdamW, gradient clipping and a schedule, in one process and by
turns; neither evaluates or saves, and the harness logs as it does by default. The median of the rounds' ratios is printed: of wall time,
and of CPU time, which other users of the machine disturb less. Target: at least 0.97.
"""

from __future__ import annotations

import argparse
import os
import pydoc_data.topics
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer

from harness.config.load import load
from harness.config.schema import Config
from harness.config.validate import to_plain
from harness.data.byte_bpe import train_byte_bpe
from harness.data.dataset import build_loader
from harness.data.mixture import build_training_data
from harness.models.language_model import build_model
from harness.models.tokenizer import load_tokenizer
from harness.optim.build import parameter_groups
from harness.runs.directory import RunDirectory
from harness.runs.files import append_json_line, write_yaml
from harness.schedule.learning_rate import learning_rate
from harness.training.plan import build_plan
from harness.training.run import train
from harness.training.stop import StopFlag

WARM_UP_STEPS = 2
"""Not timed: the first steps allocate."""
CASES = (
    # model, context length, rows a step, timed steps
    ("llama_1m", 128, 16, 40),
    ("llama_15m", 512, 4, 6),
)

Seconds = tuple[float, float]
"""Wall and CPU."""


def now() -> Seconds:
    return time.perf_counter(), time.process_time()


def since(start: Seconds) -> Seconds:
    wall, cpu = now()
    return wall - start[0], cpu - start[1]


class Stopwatch(Callback):
    """Times the steps after the warm-up; the last of the callbacks, so that logging is in it."""

    seconds: Seconds

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_index: int) -> None:
        if trainer.global_step == WARM_UP_STEPS:
            self.start = now()
        self.seconds = since(self.start) if trainer.global_step > WARM_UP_STEPS else (0.0, 0.0)


def harness(config: Config, directory: Path) -> Seconds:
    run = RunDirectory(directory)
    write_yaml(run.config, to_plain(config))
    stopwatch = Stopwatch()
    train(config, run, stop=StopFlag(), callbacks=[stopwatch])
    return stopwatch.seconds


def bare(config: Config) -> Seconds:
    tokenizer = load_tokenizer(config)
    data = build_training_data(config.data, tokenizer, seed=config.seed)
    plan = build_plan(config, data)
    model = build_model(config.model, tokenizer, seed=config.seed)
    groups = parameter_groups(config.optim, model)
    optimizer = torch.optim.AdamW(groups, lr=config.optim.lr, betas=config.optim.betas, eps=config.optim.eps, fused=True)
    loader = build_loader(plan.data, plan.batch_size, accumulation=plan.accumulation, start_step=0, stop_step=plan.steps)
    assert config.optim.gradient_clip_norm is not None
    start = now()
    for step, batch in enumerate(loader):
        if step == WARM_UP_STEPS:
            start = now()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(plan.schedule, step)
        logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optim.gradient_clip_norm)
        optimizer.step()
    return since(start)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", choices=[case[0] for case in CASES])
    arguments = parser.parse_args()
    print(f"{'model':>10} {'context':>8} {'rows':>5} {'bare tok/s':>11} {'harness tok/s':>14} {'ratio, wall':>12} {'ratio, CPU':>11}")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HARNESS_CACHE"] = f"{folder}/cache"
        texts = list(pydoc_data.topics.topics.values())
        train_byte_bpe(texts, 2048, Path(folder) / "tokenizer")
        for text in texts:
            append_json_line(Path(folder) / "text.jsonl", {"text": text})
        for model, context_length, rows, steps in CASES:
            if arguments.case not in (None, model):
                continue
            config = load(
                [
                    f"model={model}",
                    f"tokenizer.path={folder}/tokenizer",
                    f"data.sources.text.path={folder}/text.jsonl",
                    f"data.context_length={context_length}",
                    f"trainer.batch_tokens={rows * context_length}",
                    f"trainer.max_steps={steps + WARM_UP_STEPS}",
                    f"trainer.threads={arguments.threads}",
                    "trainer.accelerator=cpu",
                    "trainer.final_checkpoint=none",
                    "tracking=none",
                ]
            ).config
            rounds: list[tuple[Seconds, Seconds]] = []
            for number in range(arguments.rounds + 1):
                one, other = bare(config), harness(config, Path(folder) / f"{model}-{number}")
                # The first round warms up allocators and caches of both.
                rounds += [(one, other)] if number else []
            walls, cpus = ([one[kind] / other[kind] for one, other in rounds] for kind in (0, 1))
            tokens = steps * rows * context_length
            speeds = [tokens / statistics.median(times[which][0] for times in rounds) for which in (0, 1)]
            print(
                f"{model:>10} {context_length:>8} {rows:>5} {speeds[0]:>11,.0f} {speeds[1]:>14,.0f} "
                f"{statistics.median(walls):>12.3f} {statistics.median(cpus):>11.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
