"""harness stop: let the workers of a study save checkpoints and leave."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion
from harness.config.terminal import say
from harness.runs.exit_codes import FAILED

if TYPE_CHECKING:
    from harness.runs.submitted_jobs import Place
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
    plan = read_plan(directory)
    again = f"`harness {f'confirm {plan.study}' if plan else f'resume {directory.name}'}`"
    _stop(directory, directory.stop_request, lambda: [str(worker["id"]) for worker in living_workers(directory)], again, timeout_seconds)


def _stop_data_set(path: Path, timeout_seconds: float) -> None:
    from harness.synthesis.directory import SynthDirectory

    directory = SynthDirectory(path)
    shards = directory.begun()["shards"]

    def at_work() -> list[str]:
        command = ["the command that makes it"] if directory.is_making() else []
        return [*command, *(f"a worker on shard {shard}" for shard in directory.at_work(shards))]

    _stop(directory, directory.stop_request, at_work, "the same `harness synth`", timeout_seconds)


def _stop(place: Place, request: Path, at_work: Callable[[], list[str]], again: str, timeout_seconds: float) -> None:
    """Ask all workers to leave, and wait for it. at_work: says which are there, those of jobs possibly among them."""
    # Even without workers: one that is just starting sees the request. What goes on removes it.
    request.touch()
    jobs = _cancel_waiting(place)
    if not at_work() and not (jobs and jobs.live):
        say(f"{place.name}: no worker is running")
        return
    deadline = time.monotonic() + timeout_seconds
    looked = time.monotonic()
    while (workers := at_work()) or (jobs and jobs.live):
        if time.monotonic() > deadline:
            left = workers or [str(queued.element) for queued in (jobs.live if jobs else [])]
            say(f"{place.name}: asked to stop, but still running: {', '.join(left)}", err=True)
            raise typer.Exit(FAILED)
        time.sleep(POLL_SECONDS)
        if jobs and time.monotonic() - looked > JOBS_SECONDS:
            # Again: a job that Slurm preempted meanwhile is back in the queue.
            jobs, looked = _cancel_waiting(place), time.monotonic()
    say(f"{place.name}: stopped; {again} goes on")


def _cancel_waiting(directory: Place) -> StudyJobs | None:
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
