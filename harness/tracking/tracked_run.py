"""A W&B run's rows, each step once, whatever its attempts trained again, lost or could not send in time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.runs.directory import RunDirectory
from harness.runs.metrics import MetricsFile
from harness.tracking.identity import Identity
from harness.tracking.pieces import pieces_of
from harness.tracking.wandb_run import WandbTarget, open_run

if TYPE_CHECKING:
    import wandb


class TrackedRun:
    """One attempt's hold on a run.

    Steps that W&B has are left out: an attempt that goes on from a checkpoint logs again what its predecessor logged behind it. Steps that
    W&B lacks, since a predecessor was killed before they were written or since there was no room for them, are taken from metrics.jsonl.
    """

    def __init__(self, run: wandb.Run, *, last_step: int, metrics: MetricsFile) -> None:
        """Args: last_step, the last one that W&B has, -1 for none."""
        self._run = run
        self._last_step = last_step
        self._metrics = metrics
        self._may_lack = True

    def log(self, row: Mapping[str, Any], step: int, *, after_gap: bool = False) -> None:
        """Log a row. after_gap: whether rows before it were left out for want of room."""
        if self._may_lack or after_gap:
            self._catch_up(before=step)
        self._log(row, step)

    def finish(self, exit_code: int, *, after_gap: bool = False) -> None:
        """End the attempt's part."""
        if self._may_lack or after_gap:
            self._catch_up()
        self._run.finish(exit_code)

    def summary(self, values: Mapping[str, Any]) -> None:
        self._run.summary.update(dict(values))

    def mark_preempting(self) -> None:
        self._run.mark_preempting()

    def _catch_up(self, before: int | None = None) -> None:
        for row in self._metrics.rows():
            if before is None or row["step"] < before:
                self._log({key: value for key, value in row.items() if key != "step" and value is not None}, row["step"])
        self._may_lack = False

    def _log(self, row: Mapping[str, Any], step: int) -> None:
        if step > self._last_step:
            self._run.log(dict(row), step=step)
            self._last_step = step


@contextmanager
def open_tracked_run(
    target: WandbTarget,
    *,
    identity: Identity,
    directory: Path,
    hyperparameters: dict[str, Any],
    init_seconds: float,
    finish_seconds: float,
) -> Iterator[TrackedRun]:
    """A run in its own directory, see `open_run`."""
    # Offline nobody but the earlier attempts' own logs can tell; reading them takes a second for a hundred thousand rows.
    before = _last_step_on_disk(directory, identity) if target.is_offline else -1
    with open_run(
        target,
        identity=identity,
        directory=directory,
        hyperparameters=hyperparameters,
        init_seconds=init_seconds,
        finish_seconds=finish_seconds,
    ) as run:
        if run.resumed and not target.is_offline:
            before = run.step - 1
        yield TrackedRun(run, last_step=before, metrics=RunDirectory(directory).metrics)


def _last_step_on_disk(directory: Path, identity: Identity) -> int:
    pieces = pieces_of(directory, identity.id)
    if not pieces:
        return -1
    from harness.tracking.merged_log import logged_steps

    return max(logged_steps(pieces), default=-1)
