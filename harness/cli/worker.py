"""harness worker: one worker of a study. Launchers start it; users need not."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.config.terminal import say
from harness.runs.directory import StudyDirectory
from harness.runs.exit_codes import DONE, MACHINE_FAULT
from harness.runs.machine_faults import machine_fault
from harness.runs.signals import STOP_SIGNALS

if TYPE_CHECKING:
    from harness.search.worker import WorkerPlacement


def worker(study: Annotated[Path, typer.Argument(help="The study's directory.")]) -> None:
    """Pull trials of a study until nothing is left to do."""
    from harness.cli.study_run import StudyRunUpdates
    from harness.launch.environment import world_of
    from harness.launch.rank_group import RankGroup
    from harness.search.worker import Worker
    from harness.work.attempt import attempt_trial
    from harness.work.other_ranks import follow_worker

    directory = StudyDirectory(study)
    own, world = placement(directory), world_of(os.environ)
    if not world.is_main:
        # Signals to the step reach the attempts as well; rank 0 decides when to leave.
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise typer.Exit(follow_worker(world, own.place.node, preload(directory)))
    group = RankGroup.gather(world) if world.size > 1 else None
    updates = StudyRunUpdates(directory)
    try:
        code = Worker(directory, attempt_trial, preload(directory), replace(own, ranks=group), settled=updates.settled).work()
    except OSError as error:
        # While it starts: afterwards the worker sees to it.
        if (fault := machine_fault(error, study)) is None:
            raise
        say(f"leaves: {fault}", err=True)
        code = MACHINE_FAULT
    finally:
        if group:
            group.close()
    # A worker that was asked to leave does not wait for W&B.
    updates.finish(wait=code == DONE and not directory.stop_request.exists())
    raise typer.Exit(code)


def placement(study: StudyDirectory) -> WorkerPlacement:
    """Where this process runs: in a job of Slurm, or just on a machine."""
    from harness.launch.slurm.job_outcomes import ask_job_outcomes
    from harness.launch.slurm.submission import slurm_folder
    from harness.launch.slurm.this_job import this_job
    from harness.search.worker import WorkerPlacement

    # Also outside of jobs: a worker on a login node may adopt trials of workers in jobs.
    ask = partial(ask_job_outcomes, crashes=slurm_folder(study)) if shutil.which("squeue") else None
    job = this_job(os.environ)
    return WorkerPlacement(ask=ask) if job is None else WorkerPlacement(place=job.place, ends=job.ends, ask=ask, threads=job.cpus)


def preload(study: StudyDirectory) -> list[str]:
    """Modules that the warm server of a study's worker imports for its children."""
    from harness.runs.files import read_yaml
    from harness.work.attempt import PRELOAD

    config = read_yaml(study.sweep)["config"]
    client = [] if config["tracking"]["name"] == "none" else ["harness.tracking.warm"]
    # The client first: its models read their docstrings from sources, which takes twice as long once torch's modules are there.
    return [*client, *PRELOAD, *_model_modules(config["model"])]


def _model_modules(model: dict[str, Any]) -> list[str]:
    """The transformers module of the study's model: importing it takes longer than anything else before the first step."""
    from harness.config import documents
    from harness.config.errors import InputError

    family = model["family"]
    if model["path"]:
        try:
            family = documents.read_json(Path(model["path"]) / "config.json")["model_type"]
        except (OSError, InputError, TypeError, KeyError):
            return []  # a hub name, or a file that the trial will report on
    return [f"transformers.models.{family}.modeling_{family}"]
