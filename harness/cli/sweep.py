"""harness sweep: start a study, or go on with it."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion
from harness.cli.arguments import SweepOverrides
from harness.runs.exit_codes import DONE, FAILED

if TYPE_CHECKING:
    from rich.console import Console

    from harness.launch.local import LocalWorkers
    from harness.runs.directory import StudyDirectory
    from harness.search.status import Status
    from harness.search.sweep import Sweep


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
    from harness.search.loading import load_sweep
    from harness.search.opening import open_study, refuse_other_sweep

    given = [*(overrides or []), *([f"launcher.workers={workers}"] if workers else [])]
    loaded = load_sweep(name, given, name=study)
    for line in loaded.start.lines():
        typer.echo(f"{loaded.name}: {line}", err=True)
    refuse_other_sweep(loaded)  # before tokenizing, which may take long
    if not _has_trained(loaded.name):
        _prepare_data(loaded)
    directory = open_study(loaded)
    if detach:
        started = start_missing(directory, loaded.config.launcher.workers).tend(replace=False)
        typer.echo(f"{directory.path}: {started} workers started; harness status {directory.name} --watch")
        return
    status, started_here = follow_workers(directory, loaded.config.launcher.workers)
    raise typer.Exit(_report(status, started_here))


def _has_trained(name: str) -> bool:
    """Whether a trial of the study has found its data already."""
    from harness.runs.directory import StudyDirectory, runs_root
    from harness.runs.result import read_result

    return any(read_result(run).fingerprints for run in StudyDirectory(runs_root() / name).trials())


def start_missing(directory: StudyDirectory, wanted: int) -> LocalWorkers:
    """Start workers up to the number wanted: those of an earlier start, perhaps detached, may still be at work."""
    from harness.launch.local import LocalWorkers
    from harness.search.workers import living_workers

    return LocalWorkers(directory, max(0, wanted - len(living_workers(directory))))


def _prepare_data(loaded: Sweep) -> None:
    """Tokenize before the first worker starts: bad data ends here, once, and no trial waits for another one's tokenizer.

    In a process of its own: the libraries it needs stay out of this one.
    """
    command = [sys.executable, "-m", "harness", "data", *loaded.config.base, "--json"]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode != DONE:
        raise typer.Exit(done.returncode)


def follow_workers(directory: StudyDirectory, wanted: int, *, console: Console | None = None) -> tuple[Status, LocalWorkers]:
    """Start workers up to `wanted` and follow the study until all have left; on the first Ctrl-C (or SIGTERM) ask them to, on the second
    kill them.

    console: where the live view goes; stdout by default.
    """
    from harness.cli.live import follow
    from harness.search.workers import living_workers

    interrupts = taken_note_of = 0
    workers: LocalWorkers | None = None

    def interrupt(number: int, frame: object) -> None:
        # No more than this: what a handler interrupts may be holding any lock.
        nonlocal interrupts
        interrupts += 1

    def tend() -> int:
        nonlocal taken_note_of
        assert workers is not None
        if interrupts and not taken_note_of:
            # print, not typer.echo: the live view puts above itself what goes through sys.stderr.
            print("stopping: trials save a checkpoint and leave (once more: kill them)", file=sys.stderr)
            directory.stop_request.touch()  # workers that an earlier command started see it, too
            workers.ask_to_stop()
        if interrupts > 1:
            workers.kill()
        taken_note_of = interrupts
        own = workers.tend(replace=not directory.stop_request.exists())
        return own or (len(living_workers(directory)) if interrupts < 2 else 0)

    # Before the first worker starts: there is no moment at which a signal would leave workers behind.
    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        workers = start_missing(directory, wanted)
        return follow(directory, tend, console=console), workers
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def report_unfinished(status: Status, workers: LocalWorkers) -> None:
    """Say on stderr why the workers left before the study was finished."""
    name, stopped = status.study.name, status.study.directory.stop_request.exists()
    typer.echo(f"{name}: {'stopped' if stopped else 'not finished, its workers died'}; {_counts(status)}", err=True)
    if not stopped:
        for line in workers.last_words():
            typer.echo(f"  {line}", err=True)
        typer.echo(f"{name}: all that they said: {workers.log}", err=True)
    typer.echo(f"{name}: the same command goes on with it: {status.study.directory.path}", err=True)


def _counts(status: Status) -> str:
    return ", ".join(f"{count} {state}" for state, count in status.count().items()) or "no trial"


def _report(status: Status, workers: LocalWorkers) -> int:
    name = status.study.name
    if not status.is_finished:
        report_unfinished(status, workers)
        return FAILED
    counts = _counts(status)
    typer.echo(f"{name}: {counts}. harness compare {name} --html {name}.html; harness best {name} --export NAME", err=True)
    if status.best is None:
        typer.echo(f"{name}: no trial is complete and within the constraints", err=True)
    return DONE if status.count().get("complete") else FAILED
