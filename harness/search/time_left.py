"""How long a worker may go on: the job that it sits in ends at a time that Slurm has set, whatever is under way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from harness.runs.directory import RunDirectory
from harness.runs.files import read_yaml

SAVE_SECONDS = 10.0
"""What is kept back for a checkpoint, and for leaving. The signal before the time limit comes earlier; this is for when it does not."""


class TimeLeft:
    """Of one worker's job."""

    def __init__(self, ends: float | None, *, clock: Callable[[], float] = time.time) -> None:
        """ends: when the job ends, in seconds since the epoch; None where nothing ends it."""
        self._ends = math.inf if ends is None else ends
        self._clock = clock
        self._step_seconds = 0.0
        self._interval_seconds = 0.0

    def watch(self, run: RunDirectory) -> None:
        """Take note of the pace of a run under way; of what is not known yet nothing is assumed."""
        row = run.metrics.newest()
        if self._ends == math.inf or row is None or not row.get("tokens_per_second"):
            return
        trainer = read_yaml(run.config)["trainer"]
        self._step_seconds = trainer["batch_tokens"] / row["tokens_per_second"]
        self._interval_seconds = self._step_seconds * (trainer["checkpoint_every_steps"] or 1)

    @property
    def holds_an_interval(self) -> bool:
        """Whether an attempt that starts now could come as far as its next checkpoint, as far as the pace of the last one tells."""
        return self._ends - self._clock() >= self._interval_seconds + SAVE_SECONDS

    @property
    def is_over(self) -> bool:
        """Whether the step under way has to be the last one."""
        return self._ends - self._clock() < self._step_seconds + SAVE_SECONDS
