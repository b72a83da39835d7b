"""How long a worker may go on: Slurm ends its job at the time limit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from harness.runs.directory import RunDirectory
from harness.runs.files import read_yaml

SAVE_SECONDS = 10.0
"""Reserved for a checkpoint and for leaving, should the signal before the time limit not come."""


class TimeLeft:
    """The time that one worker's job has left."""

    def __init__(self, ends: float | None, *, clock: Callable[[], float] = time.time) -> None:
        """ends: when the job ends, in seconds since the epoch; None where nothing ends it."""
        self._ends = math.inf if ends is None else ends
        self._clock = clock
        self._step_seconds = 0.0
        self._interval_seconds = 0.0

    def watch(self, run: RunDirectory) -> None:
        """Measure the pace of a run; before its first row nothing is known."""
        row = run.metrics.newest()
        if self._ends == math.inf or row is None or not row.get("tokens_per_second"):
            return
        trainer = read_yaml(run.config)["trainer"]
        step_tokens = trainer["batch_tokens"] if trainer.get("batch_pairs") is None else row["tokens"] / row["step"]
        self._step_seconds = step_tokens / row["tokens_per_second"]
        self._interval_seconds = self._step_seconds * (trainer["checkpoint_every_steps"] or 1)

    @property
    def holds_an_interval(self) -> bool:
        """Whether an attempt that starts now would reach its next checkpoint, at the pace of the last one."""
        return self._ends - self._clock() >= self._interval_seconds + SAVE_SECONDS

    @property
    def is_over(self) -> bool:
        """Whether the current step must be the last one."""
        return self._ends - self._clock() < self._step_seconds + SAVE_SECONDS
