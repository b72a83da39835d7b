"""harness sweep: start a study, or go on with it."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion
from harness.cli.arguments import Overrides
from harness.runs.exit_codes import DONE, FAILED

if TYPE_CHECKING:
    from harness.launch.local import LocalWorkers
    from harness.runs.directory import StudyDirectory
    from harness.search.status import Status
    from harness.search.sweep import Sweep


def sweep(
    name: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="A file of sweeps/ by its name, or any file.", autocompletion=completion.sweeps)
    ],
    overrides: Overrides = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Trials at a time; default: the sweep's launcher.workers.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return at once; `harness status` watches, `harness stop` stops.")] = False,
) -> None:
    """Start a study, or go on where it stopped. Ctrl-C stops it cleanly."""
    from harness.launch.local import LocalWorkers
    from harness.search.opening import open_study
    from harness.search.sweep import load_sweep

    given = [*(overrides or []), *([f"launcher.workers={workers}"] if workers else [])]
    loaded = load_sweep(name, given)
    _prepare_data(loaded)
    directory = open_study(loaded)
    started = LocalWorkers(directory, loaded.config.launcher.workers)
    if detach:
        typer.echo(f"{directory.path}: {loaded.config.launcher.workers} workers started; harness status {directory.name} --watch")
        return
    status, stopped = _watch(directory, started)
    raise typer.Exit(_report(status, stopped))


def _prepare_data(loaded: Sweep) -> None:
    """Tokenize before the first worker starts: bad data ends here, once, and no trial waits for another one's tokenizer.

    In a process of its own: the libraries it needs stay out of this one.
    """
    command = [sys.executable, "-m", "harness", "data", *loaded.config.base, "--json"]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode != DONE:
        raise typer.Exit(done.returncode)


def _watch(directory: StudyDirectory, workers: LocalWorkers) -> tuple[Status, bool]:
    """Follow the study until its workers have left; on the first Ctrl-C (or SIGTERM) ask them to, on the second kill them."""
    from harness.cli.live import follow

    interrupts = 0

    def interrupt(number: int, frame: object) -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts == 1:
            typer.echo("stopping: trials save a checkpoint and leave (once more: kill them)", err=True)
            workers.ask_to_stop()
        else:
            workers.kill()

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        status = follow(directory, lambda: workers.tend(replace=interrupts == 0))
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return status, interrupts > 0


def _report(status: Status, stopped: bool) -> int:
    name = status.study.name
    counts = ", ".join(f"{count} {state}" for state, count in status.count().items())
    if stopped or not status.is_finished:
        reason = (
            "stopped" if stopped or status.study.directory.stop_request.exists() else "not finished: its workers died, see workers/log.txt"
        )
        typer.echo(f"{name}: {reason}; {counts}. `harness sweep` goes on with it: {status.study.directory.path}", err=True)
        return FAILED
    typer.echo(f"{name}: {counts or 'no trial'}. harness compare {name} --html {name}.html; harness best {name} --export NAME", err=True)
    if status.best is None:
        typer.echo(f"{name}: no trial is complete and within the constraints", err=True)
    return DONE if status.count().get("complete") else FAILED
