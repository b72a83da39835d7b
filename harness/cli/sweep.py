"""harness sweep: start a study, or go on with it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion
from harness.cli.arguments import SweepOverrides
from harness.runs.exit_codes import DONE, FAILED

if TYPE_CHECKING:
    from harness.work.study import Followed


def sweep(
    name: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="A file of sweeps/ by its name, or any file.", autocompletion=completion.sweeps)
    ],
    overrides: SweepOverrides = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Trials at a time; default: the sweep's launcher.workers.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return at once; `harness status` watches, `harness stop` stops.")] = False,
    study: Annotated[
        str | None, typer.Option("--name", metavar="STUDY", help="What the study is called; default: the file's name.")
    ] = None,
) -> None:
    """Start a study, or go on where it stopped. Ctrl-C stops it cleanly."""
    from harness.work.study import begin_study, follow_workers, start_missing

    try:
        directory = begin_study(name, overrides or [], name=study, workers=workers)
    except subprocess.CalledProcessError as error:
        raise typer.Exit(error.returncode) from error
    if detach:
        started = start_missing(directory).tend(replace=False)
        typer.echo(f"{directory.path}: {started} workers started; harness status {directory.name} --watch")
        return
    raise typer.Exit(_report(follow_workers(directory)))


def report_unfinished(followed: Followed) -> None:
    """Say on stderr why the workers left before the study was finished."""
    for line in followed.why_unfinished():
        typer.echo(line, err=True)


def _report(followed: Followed) -> int:
    status = followed.status
    name = status.study.name
    if not status.is_finished:
        report_unfinished(followed)
        return FAILED
    typer.echo(f"{name}: {followed.counts()}. harness compare {name} --html {name}.html; harness best {name} --export NAME", err=True)
    if status.best is None:
        typer.echo(f"{name}: no trial is complete and within the constraints", err=True)
    return DONE if status.count().get("complete") else FAILED
