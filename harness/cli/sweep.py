"""harness sweep: start a study, or go on with it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from harness.cli import completion
from harness.cli.announce import announce
from harness.cli.arguments import Detach, DryRun, SweepOverrides, Workers
from harness.runs.exit_codes import DONE, FAILED

if TYPE_CHECKING:
    from harness.search.sweep import Sweep
    from harness.work.start_study import Followed


def sweep(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE|STUDY",
            help="A file of sweeps/ by its name, any file, or a study that goes on.",
            autocompletion=completion.sweeps,
        ),
    ],
    overrides: SweepOverrides = None,
    workers: Workers = None,
    detach: Detach = False,
    study: Annotated[
        str | None, typer.Option("--name", metavar="STUDY", help="What the study is called; default: the file's name.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Start a study, or go on where it stopped. Ctrl-C stops it cleanly.

    With launcher=slurm, or a profile of a cluster (conf/launcher/, conf/local/launcher/), its workers are submitted as one job array that
    pulls trials, and the command returns. A study that was launched goes on by its name alone: what it was told then is in its sweep.yaml.
    """
    announce(f"checking all of {name}: every end of its space, then the data")
    from harness.work.start_study import read_sweep

    launch_or_follow(read_sweep(name, overrides or [], name=study, workers=workers), detach=detach, dry_run=dry_run)


def launch_or_follow(loaded: Sweep, *, detach: bool, dry_run: bool) -> NoReturn:
    """Submit the workers of a sweep's study, start them, or start and follow them; with dry_run say what would be done."""
    from harness.work.start_study import begin_study, follow_workers, start_missing

    if loaded.config.launcher.name == "slurm":
        _on_slurm(loaded, dry_run=dry_run)
        raise typer.Exit
    if dry_run:
        typer.echo(f"{loaded.name}: {loaded.config.launcher.workers} workers would be started on this machine; all else is valid", err=True)
        raise typer.Exit
    try:
        directory = begin_study(loaded)
    except subprocess.CalledProcessError as error:
        raise typer.Exit(error.returncode) from error
    if detach:
        started = start_missing(directory).tend(replace=False)
        typer.echo(f"{directory.path}: {started} workers started; harness status {directory.name} --watch")
        raise typer.Exit
    raise typer.Exit(_report(follow_workers(directory)))


def _on_slurm(sweep: Sweep, *, dry_run: bool) -> None:
    from harness.cli.submitted import report, submitting
    from harness.work.cluster import launch_study, study_script

    if dry_run:
        typer.echo(study_script(sweep), nl=False)
        return
    with submitting():
        report(launch_study(sweep))


def report_unfinished(followed: Followed) -> None:
    """Print on stderr why the workers left before the study was finished."""
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
