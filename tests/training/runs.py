"""What tests of training do with runs: train them, stop them, look at what they left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from harness.config.load import load, load_file
from harness.config.validate import to_plain
from harness.models.checkpoint_files import checkpoints, drop_checkpoints
from harness.runs.directory import RunDirectory
from harness.runs.files import write_yaml
from harness.runs.lifecycle import COMPLETE, LiveResult
from harness.runs.metrics import Row
from harness.runs.result import Result
from harness.training.stop_flag import StopFlag
from harness.training.train import train
from harness.training.trunk_path import Trunks
from harness.work.attempt import ending_of

EXACT_RESUME = (
    "model.attention_dropout=0.2",
    "trainer.micro_batch_size=2",  # two micro-batches a step
    "trainer.max_steps=12",
    "trainer.evaluate_every_steps=5",
    "data.replay_share=0.4",
)
"""Everything that has a state to lose: dropout, accumulation, a mixture."""


def new_run_of(path: Path, *overrides: str) -> RunDirectory:
    """A run of this configuration in a new directory; nothing is trained yet."""
    run = RunDirectory(path)
    run.path.mkdir(parents=True)
    write_yaml(run.config, to_plain(load(list(overrides)).config))
    return run


class StopAfter(Callback):
    """Asks the run to stop at the end of a step, as a signal in that step would."""

    def __init__(self, stop: StopFlag, step: int) -> None:
        self.stop, self.step = stop, step

    def on_before_zero_grad(self, trainer: Trainer, module: LightningModule, optimizer: torch.optim.Optimizer) -> None:
        if trainer.global_step + 1 >= self.step:
            self.stop.is_set = True


def train_here(
    run: RunDirectory, *, stop_after: int | None = None, callbacks: list[Callback] | None = None, trunks: Trunks | None = None
) -> Result:
    """One attempt on the run, in this process: what `harness.work.attempt` does, but that errors come through."""
    stop = StopFlag()
    stopping = [] if stop_after is None else [StopAfter(stop, stop_after)]
    return train_with(run, stop=stop, callbacks=[*stopping, *(callbacks or [])], trunks=trunks)


def train_with(run: RunDirectory, **given: Any) -> Result:
    """An attempt on the run. given: arguments of `train`."""
    config = load_file(run.config)
    with LiveResult(run, ending_of) as live:
        live.ending = train(config, live, **given)
    if live.ending is COMPLETE and config.trainer.final_checkpoint == "none":
        drop_checkpoints(run.checkpoints)
    return live.result


def final_state(run: RunDirectory) -> dict[str, Any]:
    """The deepest checkpoint: weights and optimizer."""
    stored = checkpoints(run.checkpoints)
    return load_checkpoint(stored[max(stored)])


def load_checkpoint(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = torch.load(path, weights_only=True)
    return document


def assert_same_bits(one: Any, other: Any, where: str = "") -> None:
    """Nested containers of tensors that are equal to the last bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), f"{where} differs by up to {(one.double() - other.double()).abs().max()}"
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key, value in one.items():
            assert_same_bits(value, other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same_bits(a, b, f"{where}.{index}")
    else:
        assert one == other, where


def assert_same_run(one: RunDirectory, other: RunDirectory) -> None:
    """Both ended with the same weights, optimizer and random state, and logged the same rows, up to their speed."""
    a, b = final_state(one), final_state(other)
    for part in ("global_step", "state_dict", "training_weights", "optimizer_states", "callbacks", "non_finite"):
        assert_same_bits(a.get(part), b.get(part), part)
    assert rows_without_speed(one) == rows_without_speed(other)


def rows_without_speed(run: RunDirectory) -> list[Row]:
    speed = ("tokens_per_second", "evaluation_seconds")
    return [{key: value for key, value in row.items() if key not in speed} for row in run.metrics.rows()]
