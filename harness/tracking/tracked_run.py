"""The rows of a W&B run: each step once, whatever attempts repeated or lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.runs.directory import RunDirectory
from harness.tracking.samples_table import samples_tables
from harness.tracking.wandb_directory import OpenedRun, write_opened
from harness.tracking.wandb_run import client

if TYPE_CHECKING:
    import wandb


class TrackedRun:
    """An open run to which steps go once.

    Steps that W&B has are left out: an attempt that goes on from a checkpoint logs again what its predecessor logged behind it. Steps that
    W&B lacks, since a predecessor was killed before they were written or since there was no room for them, are taken from metrics.jsonl.
    """

    def __init__(self, run: wandb.Run, directory: RunDirectory, *, last_step: int = -1) -> None:
        """directory: of the run's own files; last_step: the last step logged, -1 for none; of a run that W&B has, its own counts."""
        self._run = run
        self._last_step = run.step - 1 if run.resumed else last_step
        self._directory = directory
        self._may_lack = True

    def log(self, row: Mapping[str, Any], step: int, *, after_gap: bool = False) -> None:
        """Log a row. after_gap: whether rows before it were left out for want of room."""
        if self._may_lack or after_gap:
            self._catch_up(before=step)
        self._log(row, step)

    def finish(self, exit_code: int, summary: Mapping[str, Any], *, after_gap: bool = False) -> None:
        """End the attempt's part: with the rows that are lacking, keys of the summary over those of the last row, and what was written."""
        if self._may_lack or after_gap:
            self._catch_up()
        self._run.summary.update({**summary, **self._samples()})
        self._run.finish(exit_code)

    def _samples(self) -> dict[str, Any]:
        tables = samples_tables(self._directory.generations)
        if not tables:
            return {}
        from wandb import Table

        return {key: Table(columns=columns, data=rows, allow_mixed_types=True) for key, (columns, rows) in tables.items()}

    def mark_preempting(self) -> None:
        self._run.mark_preempting()

    def _catch_up(self, before: int | None = None) -> None:
        for row in self._directory.metrics.rows():
            if before is None or row["step"] < before:
                self._log({key: value for key, value in row.items() if key != "step" and value is not None}, row["step"])
        self._may_lack = False

    def _log(self, row: Mapping[str, Any], step: int) -> None:
        if step > self._last_step:
            self._run.log(dict(row), step=step)
            self._last_step = step


@contextmanager
def open_tracked_run(start: Callable[[], wandb.Run], directory: RunDirectory, *, last_step: int) -> Iterator[TrackedRun]:
    """An attempt's run, opened by `start`. last_step: that earlier attempts logged, -1 for none."""
    with client():
        opened = start()
        write_opened(directory, OpenedRun(opened.id, opened.entity or None, opened.project, opened.url or None))
        yield TrackedRun(opened, directory, last_step=last_step)
