"""harness sync: upload ended offline runs to W&B."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion
from harness.cli.announce import announce
from harness.cli.arguments import AsJson, print_json
from harness.config.terminal import say
from harness.runs.exit_codes import DONE, FAILED

if TYPE_CHECKING:
    from harness.work.sync import SyncReport


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
    from harness.work.sync import SyncReport

    announce(f"looking at {path or 'all runs'}")
    report = SyncReport(select(path)) if dry_run else _sync(path, watch=watch)
    if as_json:
        print_json(report.to_json(dry_run=dry_run))
    else:
        _print_report(report, dry_run=dry_run)
    raise typer.Exit(FAILED if report.has_failures else DONE)


def _sync(path: str | None, *, watch: bool) -> SyncReport:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from harness.config.literal_console import LiteralConsole
    from harness.work.sync import sync

    bar = Progress(
        TextColumn("sync", style="bold"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=LiteralConsole(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("", total=None)
        return sync(
            path,
            watch=watch,
            begin=lambda runs: bar.reset(task, total=len(runs)),
            done=lambda outcome: bar.update(task, advance=1, description=outcome.run.name),
        )


def _print_report(report: SyncReport, *, dry_run: bool) -> None:
    document = report.to_json(dry_run=dry_run)
    for name in document["to_sync"]:
        say(f"would upload {name}")
    for run in document["synced"]:
        if run["note"]:
            say(f"{run['run']}: {run['note']}")
    for run in document["failed"]:
        say(f"not uploaded: {run['run']}: {run['reason']}", err=True)
    for study in document["studies"]:
        say(f"{study['study']}: {study['url']}")
    for study in document["studies_failed"]:
        say(f"not uploaded: {study['reason']}", err=True)
    uploaded = [run for run in document["synced"] if run["rows"]]
    counts = {
        "would be uploaded": len(document["to_sync"]),
        "uploaded": len(uploaded),
        "not uploaded": len(document["failed"]),
        "in W&B already": len(document["already_synced"]) + len(document["synced"]) - len(uploaded),
        "not ended yet": len(document["unfinished"]),
        "not tracked": len(document["untracked"]),
    }
    say("; ".join(f"{count} {what}" for what, count in counts.items() if count) or "no run")
