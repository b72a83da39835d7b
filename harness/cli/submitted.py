"""Output of the verbs that submit jobs."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from harness.config.terminal import say
from harness.runs.exit_codes import FAILED

if TYPE_CHECKING:
    from harness.work.cluster import Submitted


@contextlib.contextmanager
def submitting() -> Iterator[None]:
    """End the command if Slurm does not answer, or the preparation failed (which has printed why)."""
    from harness.launch.slurm.commands import SlurmUnavailableError

    try:
        yield
    except SlurmUnavailableError as error:
        say(f"{error}\nnothing was submitted; the same command tries again", err=True)
        raise typer.Exit(FAILED) from None
    except subprocess.CalledProcessError as error:
        raise typer.Exit(error.returncode) from error


def workers_text(workers: int) -> str:
    """E.g. 1 worker, 2 workers."""
    return f"{workers} worker{'' if workers == 1 else 's'}"


def report(submitted: Submitted) -> None:
    """Print the job on stdout, and on stderr the next commands."""
    from harness.cli.sweep import end_lines
    from harness.runs.directory import RunDirectory, StudyDirectory
    from harness.search.status import read_status

    place, job = submitted.place, submitted.job
    if submitted.preparation:
        say(f"{place.path}: job {submitted.preparation.job} tokenizes first", err=True)
    if isinstance(place, RunDirectory):
        assert job is not None, "a single run is submitted or refused"
        say(f"job {job.job}, written in {job.script}", err=True)
        say(f"  squeue -j {job.job}    tail -F {place.path}/slurm/{job.job}.log    scancel {job.job}", err=True)
        say(place.path)
        return
    if submitted.is_finished:
        say(f"{place.path}: finished, nothing was submitted")
        if isinstance(place, StudyDirectory):
            status = read_status(place)
            for line in end_lines(status, status.standings_text()):
                say(line, err=True)
        return
    if job is None:
        say(f"{place.path}: {workers_text(submitted.present)} already, none was submitted")
    else:
        besides = f", beside {submitted.present} that wait or run already" if submitted.present else ""
        say(f"{place.path}: job {job.job}, {workers_text(job.tasks or 1)}{besides}")
        say(f"  as written in {job.script}", err=True)
    if isinstance(place, StudyDirectory):
        say(f"  harness status {place.name} --watch    harness workers {place.name} --add 2    harness stop {place.name}", err=True)
    else:
        say(f"  harness status {place.path} --watch    harness stop {place.path}", err=True)
