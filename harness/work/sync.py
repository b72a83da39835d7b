"""Uploads ended runs and their studies to W&B, once or while a study runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.config.errors import InputError
from harness.runs.directory import RunDirectory, StudyDirectory, find_study
from harness.search.workers import living_workers
from harness.tracking.selection import Selection, select
from harness.tracking.wandb_directory import refuse_links
from harness.tracking.wandb_run import TrackingError

if TYPE_CHECKING:
    from harness.tracking.upload import Synced

WATCH_SECONDS = 5.0
"""Between two looks at a study that is watched."""
STUDY_RUN_SECONDS = 30.0
"""How long it waits for a worker that brings the study's own run up to date."""


@dataclass
class SyncReport:
    """The outcome, over all passes of a watched study."""

    selection: Selection
    """Of the last pass."""
    outcomes: dict[str, Synced] = field(default_factory=dict)
    """The last of each run, by its directory."""
    studies: dict[str, str] = field(default_factory=dict)
    """URLs of the updated runs of studies, by study."""
    studies_failed: dict[str, str] = field(default_factory=dict)
    """Reasons of those that failed, by study."""

    @property
    def has_failures(self) -> bool:
        return bool(self.of("failed") or self.studies_failed)

    def of(self, kind: str) -> list[Synced]:
        return [outcome for outcome in self.outcomes.values() if outcome.outcome == kind]

    def to_json(self, *, dry_run: bool) -> dict[str, Any]:
        return {
            "dry_run": dry_run,
            "to_sync": [run.name for run in self.selection.to_sync] if dry_run else [],
            "synced": [{"run": one.run.name, "rows": one.rows, "url": one.url, "note": one.reason} for one in self.of("synced")],
            "failed": [{"run": one.run.name, "reason": one.reason} for one in self.of("failed")],
            "studies": [{"study": name, "url": url} for name, url in self.studies.items()],
            "studies_failed": [{"study": name, "reason": reason} for name, reason in self.studies_failed.items()],
            "already_synced": [run.name for run in self.selection.synced if str(run.path) not in self.outcomes],
            "unfinished": [run.name for run in self.selection.unfinished],
            "untracked": [run.name for run in self.selection.untracked],
        }


def sync(
    path: str | None,
    *,
    watch: bool,
    begin: Callable[[list[RunDirectory]], None],
    done: Callable[[Synced], None],
) -> SyncReport:
    """Upload what has ended under a path, and the runs of the studies there.

    watch: look again until no worker of the study is left. begin, done: called with the runs of every look, and with what came of each.
    Raises InputError where there is no such path, or no server that lets us in.
    """
    if watch and path is None:
        raise InputError("--watch: name the study that is to be watched")
    study = find_study(str(path)) if watch else None
    report = SyncReport(select(path))
    while True:
        # Before the runs: what ends after this is found by the next pass.
        living = study is not None and bool(living_workers(study))
        report.selection = select(path)
        begin(report.selection.to_sync)
        _sync_once(report, done)
        if not living:
            return report
        time.sleep(WATCH_SECONDS)


def _sync_once(report: SyncReport, done: Callable[[Synced], None]) -> None:
    if report.selection.to_sync:
        from harness.tracking.upload import sync_runs  # imports wandb

        try:
            for outcome in sync_runs(report.selection.to_sync, done=done):
                report.outcomes[str(outcome.run.path)] = outcome
        except TrackingError as error:
            raise InputError(f"{error}. $WANDB_BASE_URL and $WANDB_API_KEY (or `wandb login`) say where to upload, and as whom.") from error
    for study in report.selection.studies:
        _publish(study, report)
        if not any(outcome.run.study == study for outcome in report.of("failed")):
            study.wandb_off.unlink(missing_ok=True)


def _publish(study: StudyDirectory, report: SyncReport) -> None:
    from harness.tracking.study_overview import study_target
    from harness.work.study_snapshot import publish_study

    target = study_target(study, online=True)
    if target is None:
        return
    try:
        for run in study.trials():
            refuse_links(run)
        url = publish_study(study, target, wait_seconds=STUDY_RUN_SECONDS)
    except (TrackingError, InputError) as error:
        report.studies_failed[study.name] = str(error)
        return
    report.studies_failed.pop(study.name, None)
    if url is not None:
        report.studies[study.name] = url
