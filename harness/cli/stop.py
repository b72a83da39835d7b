"""harness stop: let the workers of a study save checkpoints and leave."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion
from harness.config.terminal import say
from harness.runs.exit_codes import FAILED

if TYPE_CHECKING:
    from harness.runs.directory import StudyDirectory
    from harness.work.study_jobs import StudyJobs

POLL_SECONDS = 0.1
JOBS_SECONDS = 2.0
"""Between two looks at Slurm's queue."""


def stop(
    study: Annotated[
        str,
        typer.Argument(
            help="A study, or a data set that is made: its name under runs/, or its directory.", autocompletion=completion.studies_and_data
        ),
    ],
    timeout_seconds: Annotated[float, typer.Option("--timeout", help="Seconds to wait for the workers to leave.")] = 120.0,
) -> None:
    """Stop a study cleanly: its trials save checkpoints, none is lost, and jobs that still wait in a queue are cancelled; or the making of
    a data set: what is written stays."""
    from harness.runs.confirmation_plan import read_plan
    from harness.runs.directory import find_study, study_called, synth_called
    from harness.search.workers import living_workers

    if study_called(study) is None and (data_set := synth_called(study)) is not None:
        _stop_data_set(data_set, timeout_seconds)
        return
    directory = find_study(study)
    # Even without workers: one that is just starting sees the request. The next `harness sweep` removes it.
    directory.stop_request.touch()
    jobs = _cancel_waiting(directory)
    if not living_workers(directory) and not (jobs and jobs.live):
        say(f"{directory.name}: no worker is running")
        return
    deadline = time.monotonic() + timeout_seconds
    looked = time.monotonic()
    while (workers := living_workers(directory)) or (jobs and jobs.live):
        if time.monotonic() > deadline:
            left = [str(worker["id"]) for worker in workers] or [str(queued.element) for queued in (jobs.live if jobs else [])]
            say(f"{directory.name}: asked to stop, but still running: {', '.join(left)}", err=True)
            raise typer.Exit(FAILED)
        time.sleep(POLL_SECONDS)
        if jobs and time.monotonic() - looked > JOBS_SECONDS:
            # Again: a job that Slurm preempted meanwhile is back in the queue.
            jobs, looked = _cancel_waiting(directory), time.monotonic()
    plan = read_plan(directory)
    verb = f"confirm {plan.study}" if plan else f"resume {directory.name}"
    say(f"{directory.name}: stopped; `harness {verb}` goes on")


def _stop_data_set(path: Path, timeout_seconds: float) -> None:
    from harness.synthesis.directory import SynthDirectory

    directory = SynthDirectory(path)
    if not directory.is_making():
        say(f"{directory.name}: nobody makes it")
        return
    directory.stop_request.touch()
    deadline = time.monotonic() + timeout_seconds
    while directory.is_making():
        if time.monotonic() > deadline:
            say(f"{directory.name}: asked to stop, but still running", err=True)
            raise typer.Exit(FAILED)
        time.sleep(POLL_SECONDS)
    say(f"{directory.name}: stopped; the same `harness synth` goes on")


def _cancel_waiting(directory: StudyDirectory) -> StudyJobs | None:
    from harness.work.study_jobs import cancel_waiting, study_jobs

    jobs = study_jobs(directory)
    if jobs is None:
        return None
    if jobs.trouble:
        say(f"{directory.name}: its workers are asked to stop, but jobs that wait cannot be cancelled: {jobs.trouble}", err=True)
        raise typer.Exit(FAILED)
    cancelled = cancel_waiting(jobs)
    if cancelled:
        say(f"{directory.name}: {cancelled} waiting jobs cancelled", err=True)
    return jobs
