"""harness sweep: start a study, or go on with it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion
from harness.cli.arguments import DryRun, SweepOverrides
from harness.config.terminal import say
from harness.runs.exit_codes import DONE, FAILED

if TYPE_CHECKING:
    from harness.search.sweep import Sweep
    from harness.work.start_study import Followed


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
    dry_run: DryRun = False,
) -> None:
    """Start a study, or go on where it stopped. Ctrl-C stops it cleanly.

    With launcher=slurm, or a profile of a cluster (conf/launcher/, conf/local/launcher/), its workers are submitted as one job array that
    pulls trials, and the command returns. The same command again submits those that are missing.
    """
    from harness.work.start_study import begin_study, follow_workers, read_sweep, start_missing

    loaded = read_sweep(name, overrides or [], name=study, workers=workers)
    if loaded.config.launcher.name == "slurm":
        _on_slurm(loaded, dry_run=dry_run)
        return
    if dry_run:
        say(f"{loaded.name}: {loaded.config.launcher.workers} workers would be started on this machine; all else is valid", err=True)
        return
    try:
        directory = begin_study(loaded)
    except subprocess.CalledProcessError as error:
        raise typer.Exit(error.returncode) from error
    if detach:
        started = start_missing(directory).tend(replace=False)
        say(f"{directory.path}: {started} workers started; harness status {directory.name} --watch")
        return
    raise typer.Exit(_report(follow_workers(directory)))


def _on_slurm(sweep: Sweep, *, dry_run: bool) -> None:
    from harness.cli.submitted import report, submitting
    from harness.work.cluster import launch_study, study_script

    if dry_run:
        say(study_script(sweep), nl=False)
        return
    with submitting():
        report(launch_study(sweep))


def report_unfinished(followed: Followed) -> None:
    """Print on stderr why the workers left before the study was finished."""
    for line in followed.why_unfinished():
        say(line, err=True)


def _report(followed: Followed) -> int:
    status = followed.status
    name = status.study.name
    if not status.is_finished:
        report_unfinished(followed)
        return FAILED
    say(f"{name}: {followed.counts()}. harness compare {name} --html {name}.html; harness best {name} --export NAME", err=True)
    if status.best is None:
        say(f"{name}: no trial is complete and within the constraints", err=True)
    return DONE if status.count().get("complete") else FAILED
