"""A run's metrics in W&B: one W&B run whatever the attempts, and training neither waits for it nor fails because of it.

metrics.jsonl is the truth; W&B is a view of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from harness.config.schema import TrackingConfig
from harness.runs.directory import RunDirectory
from harness.tracking.background import Background
from harness.tracking.identity import Identity
from harness.tracking.model_artifact import logs_own_model
from harness.tracking.tracked_run import TrackedRun, open_tracked_run
from harness.tracking.wandb_run import WandbTarget, kill_client, start_run

QUEUE_ROWS = 10_000
"""Rows that may wait in memory for W&B: more than any run logs in the second that wandb.init takes, in a few megabytes."""
INIT_SECONDS = 300.0
"""How long W&B may take to answer at first, e.g. under its rate limit; training does not wait."""
FINISH_ONLINE_SECONDS = 30.0
"""How long the end of an attempt waits for W&B to upload what is left."""
MODEL_SECONDS = 900.0
"""The same where the attempt uploads its model."""
FINISH_OFFLINE_SECONDS = 10.0
"""Offline there is only a file to close: milliseconds, unless the disk is slow."""
GRACE_SECONDS = 2.0
"""The client gives up uploading this much earlier than we give up waiting for it, so that it can still write its log in peace."""
PREEMPTED_EXIT_CODE = 1
"""W&B calls a run that was marked preempting `preempted` if it exits with an error, and `finished` (for good) if it does not."""


class WandbLogger:
    """One attempt's part of a W&B run, on rank 0, until `finish` is called."""

    def __init__(
        self,
        config: TrackingConfig,
        *,
        identity: Identity,
        directory: Path,
        hyperparameters: dict[str, Any],
    ) -> None:
        self._target = WandbTarget.of(config)
        self._directory = RunDirectory(directory)
        self._logs_model = logs_own_model(config, self._directory)
        online = MODEL_SECONDS if self._logs_model else FINISH_ONLINE_SECONDS
        self._finish_seconds = FINISH_OFFLINE_SECONDS if self._target.is_offline else online
        self._preempted = False
        self.failure: str | None = None
        """Why W&B lacks some of the attempt; known when it has finished."""
        self._summary: dict[str, float | str] = {}
        self._gap = False
        """Whether the last row was dropped since the queue was full."""
        self._opened: Callable[[], AbstractContextManager[TrackedRun]] | None = None
        """None where nothing is tracked, and when the attempt's part has ended."""
        self._run: Background[TrackedRun] | None = None
        if self._target.mode != "disabled":
            run = self._directory
            start = partial(
                start_run,
                self._target,
                identity=identity,
                directory=directory,
                hyperparameters=hyperparameters,
                init_seconds=INIT_SECONDS,
                finish_seconds=self._finish_seconds - GRACE_SECONDS,
            )
            # Offline only our files know what an earlier attempt has logged; online, W&B does. Before this one logs anything.
            last_step = _last_step(run) if self._target.is_offline else -1
            self._opened = partial(open_tracked_run, start, run, last_step=last_step)

    @property
    def is_open(self) -> bool:
        """Whether anything was given to W&B yet: data and models that cannot be used are refused before."""
        return self._run is not None

    def _tracked(self) -> Background[TrackedRun] | None:
        """The run, which is opened when it is asked for the first time."""
        if self._run is None and self._opened is not None:
            self._run = Background("W&B", self._opened, capacity=QUEUE_ROWS)
        return self._run

    def log_metrics(self, metrics: Mapping[str, float | None], step: int | None = None) -> None:
        """Log a row at this optimizer step; it never blocks and never raises. Values that are None are left out.

        A row for which there is no room is taken from metrics.jsonl later; steps that an earlier attempt has logged are left out.
        """
        if run := self._tracked():
            assert step is not None, "rows are logged by optimizer step"
            row, after_gap = {key: value for key, value in metrics.items() if value is not None}, self._gap
            self._gap = not run.offer(lambda tracked: tracked.log(row, step, after_gap=after_gap))

    def summary(self, values: Mapping[str, float | str]) -> None:
        """Keys that `finish` sets in the summary as they are: flat, so that W&B sorts and filters by `objective` or `best/val_loss`."""
        self._summary.update(values)

    def preempting(self) -> None:
        """This attempt stops cleanly and another one will resume: `finish` leaves the run `preempted`."""
        self._preempted = True
        if run := self._tracked():
            run.ensure(lambda tracked: tracked.mark_preempting())

    def finish(self, status: str, *, is_complete: bool = False) -> None:
        """End this attempt's part, as a "success" or not: wait for what is left to be written, for a bounded time."""
        run = self._tracked()
        if run is None:
            return
        model = self._directory if self._logs_model and is_complete and not self._target.is_offline else None
        exit_code = PREEMPTED_EXIT_CODE if self._preempted else int(status != "success")
        run.ensure(lambda tracked: tracked.finish(exit_code, self._summary, after_gap=self._gap, model=model))
        run.close(self._finish_seconds, force=kill_client)
        self.failure = run.failure
        self._run = self._opened = None


def _last_step(run: RunDirectory) -> int:
    """The last step that is logged; -1 where there is none, or a file that cannot be read, of which the client will say more."""
    try:
        last = run.metrics.last()
    except OSError:
        return -1
    return int(last["step"]) if last else -1
