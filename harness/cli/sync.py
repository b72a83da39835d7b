"""harness sync: upload ended offline runs to W&B."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import completion
from harness.cli.arguments import AsJson, print_json
from harness.config.errors import InputError
from harness.runs.exit_codes import DONE, FAILED

if TYPE_CHECKING:
    from harness.runs.directory import StudyDirectory
    from harness.tracking.selection import Selection
    from harness.tracking.sync import Synced

WATCH_SECONDS = 5.0
"""Between two looks at a study that is watched."""
STUDY_RUN_SECONDS = 30.0
"""How long it waits for a worker that brings the study's own run up to date."""


@dataclass
class _Report:
    """What came of it, over all looks at a study that is watched: of each run, the last."""

    outcomes: dict[str, Synced] = field(default_factory=dict)

    studies: dict[str, str] = field(default_factory=dict)
    """Where the runs of studies are that were brought up to date."""
    studies_failed: dict[str, str] = field(default_factory=dict)
    """Why others were not."""

    def add(self, outcome: Synced) -> None:
        self.outcomes[str(outcome.run.path)] = outcome

    @property
    def has_failures(self) -> bool:
        return bool(self.of("failed") or self.studies_failed)

    def of(self, kind: str) -> list[Synced]:
        return [outcome for outcome in self.outcomes.values() if outcome.outcome == kind]


def sync(
    path: Annotated[
        str | None,
        typer.Argument(help="A study, a run, or a directory of them; default: all under runs/.", autocompletion=completion.runs),
    ] = None,
    as_json: AsJson = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be uploaded.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Of a running study: each trial as it ends, until no worker is left.")] = False,
) -> None:
    """Upload ended runs to W&B, once each, from what they have on disk."""
    from harness.tracking.selection import select

    selection = select(path)
    if watch:
        _refuse_watching_other_than_a_study(path)
    report = _Report()
    if not dry_run:
        _sync(selection, report)
        while watch:
            # Looked at before the runs: what ends after this is still found by the next look.
            living = _has_workers(str(path))
            selection = select(path)
            _sync(selection, report)
            if not living:
                break
            time.sleep(WATCH_SECONDS)
    if as_json:
        print_json(_document(selection, report, dry_run=dry_run))
    else:
        _say(selection, report, dry_run=dry_run)
    raise typer.Exit(FAILED if report.has_failures else DONE)


def _refuse_watching_other_than_a_study(path: str | None) -> None:
    from harness.runs.directory import find_study

    if path is None:
        raise InputError("--watch: name the study that is to be watched")
    find_study(path)


def _has_workers(study: str) -> bool:
    from harness.runs.directory import find_study
    from harness.search.workers import living_workers

    return bool(living_workers(find_study(study)))


def _sync(selection: Selection, report: _Report) -> None:
    if selection.to_sync:
        _sync_runs(selection, report)
    for study in selection.studies:
        _publish(study, report)


def _publish(study: StudyDirectory, report: _Report) -> None:
    """The study's own run."""
    from harness.cli.study_run import publish_study
    from harness.tracking.study_overview import study_target
    from harness.tracking.wandb_run import TrackingError

    target = study_target(study, online=True)
    if target is None:
        return
    try:
        url = publish_study(study, target, wait_seconds=STUDY_RUN_SECONDS)
    except TrackingError as error:
        report.studies_failed[study.name] = str(error)
        return
    report.studies_failed.pop(study.name, None)
    if url is not None:
        report.studies[study.name] = url


def _sync_runs(selection: Selection, report: _Report) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from harness.tracking.sync import sync_runs
    from harness.tracking.wandb_run import TrackingError

    bar = Progress(
        TextColumn("[bold]sync"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("", total=len(selection.to_sync))

        def done(outcome: Synced) -> None:
            report.add(outcome)
            bar.update(task, advance=1, description=outcome.run.name)

        try:
            sync_runs(selection.to_sync, done=done)
        except TrackingError as error:
            raise InputError(f"{error}. $WANDB_BASE_URL and $WANDB_API_KEY (or `wandb login`) say where to upload, and as whom.") from error


def _document(selection: Selection, report: _Report, *, dry_run: bool) -> dict[str, Any]:
    def names(runs: list[Any]) -> list[str]:
        return [run.name for run in runs]

    return {
        "dry_run": dry_run,
        "to_sync": names(selection.to_sync) if dry_run else [],
        "synced": [
            {"run": outcome.run.name, "rows": outcome.rows, "url": outcome.url, "note": outcome.reason} for outcome in report.of("synced")
        ],
        "failed": [{"run": outcome.run.name, "reason": outcome.reason} for outcome in report.of("failed")],
        "studies": [{"study": name, "url": url} for name, url in report.studies.items()],
        "studies_failed": [{"study": name, "reason": reason} for name, reason in report.studies_failed.items()],
        "already_synced": [run.name for run in selection.synced if str(run.path) not in report.outcomes],
        "unfinished": names(selection.unfinished),
        "untracked": names(selection.untracked),
    }


def _say(selection: Selection, report: _Report, *, dry_run: bool) -> None:
    document = _document(selection, report, dry_run=dry_run)
    if dry_run:
        for name in document["to_sync"]:
            typer.echo(f"would upload {name}")
    for run in document["synced"]:
        if run["note"]:
            typer.echo(f"{run['run']}: {run['note']}")
    for run in document["failed"]:
        typer.echo(f"not uploaded: {run['run']}: {run['reason']}", err=True)
    for study in document["studies"]:
        typer.echo(f"{study['study']}: {study['url']}")
    for study in document["studies_failed"]:
        typer.echo(f"not uploaded: {study['reason']}", err=True)
    uploaded = [run for run in document["synced"] if run["rows"]]
    counts = {
        "would be uploaded": len(document["to_sync"]),
        "uploaded": len(uploaded),
        "not uploaded": len(document["failed"]),
        "in W&B already": len(document["already_synced"]) + len(document["synced"]) - len(uploaded),
        "not ended yet": len(document["unfinished"]),
        "without a W&B log": len(document["untracked"]),
    }
    typer.echo("; ".join(f"{count} {what}" for what, count in counts.items() if count) or "no run")
