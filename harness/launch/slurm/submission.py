"""Submitting: the script of a study's workers or of a single run is written beside what it works on, submitted, and recorded."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from harness.config.errors import InputError
from harness.config.launcher_schema import LauncherConfig
from harness.config.locations import CONFIG_DIR_VARIABLE, batch_template, in_home
from harness.config.remote_code import TRUST_VARIABLE
from harness.config.schema import TrainerConfig
from harness.config.validate import to_plain
from harness.launch.slurm.commands import Slurm, SlurmRefusedError
from harness.launch.slurm.job_elements import JobElement, QueuedElement
from harness.launch.slurm.script import TEMPLATE, BatchJob, render, requested, shape_of
from harness.runs.cache import CACHE_VARIABLE
from harness.runs.directory import RunDirectory, StudyDirectory, runs_root
from harness.runs.exit_codes import BAD_INPUT, DONE, FAILED, MACHINE_FAULT
from harness.runs.submitted_jobs import Place, SubmittedJob, read_jobs, record_job

PATHS = (CACHE_VARIABLE, CONFIG_DIR_VARIABLE)
SETTINGS = ("HF_HOME", "HF_HUB_OFFLINE", "WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY", TRUST_VARIABLE)
"""Variables that a script repeats as they are at the launch, so that it can be submitted from another shell, too. No secrets."""


def worker_job(
    study: StudyDirectory, launcher: LauncherConfig, trainer: TrainerConfig, *, count: int, after: tuple[int, ...] = ()
) -> BatchJob:
    """An array of `count` workers of a study."""
    place = study.path.resolve()
    return _job(
        study,
        launcher,
        trainer,
        title=f"{count} worker{'' if count == 1 else 's'} of the study {study.name}",
        arguments=["-m", "harness", "worker", str(place)],
        log="%A_%a.log",
        tasks=count,
        after=after,
        final_codes=(DONE, BAD_INPUT, MACHINE_FAULT),  # a worker that crashed is replaced, as on one machine
    )


def run_job(run: RunDirectory, launcher: LauncherConfig, trainer: TrainerConfig, *, after: tuple[int, ...] = ()) -> BatchJob:
    """One job for a single run."""
    arguments = ["-m", "harness", "attempt", str(run.path.resolve())]
    return _job(run, launcher, trainer, title=f"The run {run.path.name}", arguments=arguments, log="%j.log", after=after)


def synth_job(place: Place, launcher: LauncherConfig, trainer: TrainerConfig, *, count: int) -> BatchJob:
    """An array of `count` workers of a data set that is made."""
    return _job(
        place,
        launcher,
        trainer,
        title=f"{count} worker{'' if count == 1 else 's'} of the data set {place.name}",
        arguments=["-m", "harness.work.synth_job", str(place.path.resolve())],
        log="%A_%a.log",
        tasks=count,
    )


def prepare_job(place: Place, launcher: LauncherConfig, arguments: list[str]) -> BatchJob:
    """The tokenization of what a study or a run trains on, in one task on one node. arguments: of `harness.work.prepare`."""
    job = _job(
        place,
        launcher,
        TrainerConfig(accelerator="cpu"),
        title=f"The data of {place.path.name}",
        arguments=["-m", "harness.work.prepare", *arguments],
        log="%j-prepare.log",
    )
    return replace(job, name=f"{job.name}-prepare", resumable=False, shape=replace(job.shape, gpus_per_node=0))


def _job(
    place: Place,
    launcher: LauncherConfig,
    trainer: TrainerConfig,
    *,
    title: str,
    arguments: list[str],
    log: str,
    tasks: int | None = None,
    after: tuple[int, ...] = (),
    final_codes: tuple[int, ...] = (DONE, FAILED, BAD_INPUT),
) -> BatchJob:
    folder = slurm_folder(place).resolve()
    return BatchJob(
        title=title,
        name=place.path.name,
        arguments=arguments,
        script=folder / f"job-{1 + len(list(folder.glob('job-*.sbatch')))}.sbatch",
        log=folder / log,
        directory=Path.cwd(),
        python=launcher.python or sys.executable,
        tasks=tasks,
        shape=shape_of(launcher, trainer),
        environment=_environment(),
        after=after,
        final_codes=final_codes,
    )


def slurm_folder(place: Place) -> Path:
    """Where the scripts and the output of jobs are."""
    return place.workers / "slurm" if isinstance(place, StudyDirectory) else place.path / "slurm"


def _environment() -> dict[str, str]:
    paths = {name: str(in_home(os.environ[name]).resolve()) for name in PATHS if os.environ.get(name)}
    settings = {name: os.environ[name] for name in SETTINGS if os.environ.get(name)}
    return {"HARNESS_RUNS": str(runs_root().resolve()), **paths, **settings}


def script_of(job: BatchJob, launcher: LauncherConfig) -> str:
    """The text of a job's script. Raises InputError for a template that cannot be rendered."""
    import jinja2

    path = batch_template(TEMPLATE)
    try:
        return render(job, launcher, path.read_text("utf-8"), template_path=path)
    except (jinja2.TemplateError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be rendered: {error}") from None


def check_accepted(job: BatchJob, launcher: LauncherConfig) -> None:
    """Raise SlurmRefusedError, in the cluster's own words and with what was asked for, where it would not take the job."""
    with tempfile.TemporaryDirectory(prefix="harness-sbatch-") as folder:
        script = Path(folder) / job.script.name
        script.write_text(script_of(job, launcher), "utf-8")
        try:
            Slurm(launcher.cluster).test(script)
        except SlurmRefusedError as error:
            asked = " ".join(requested(job, launcher))
            raise SlurmRefusedError(f"the cluster refuses the job: {error}\n  asked for: {asked} (--dry-run prints the script)") from None


def submit(place: Place, job: BatchJob, launcher: LauncherConfig, *, purpose: str) -> SubmittedJob:
    """Write the job's script, submit it, and write it down. Raises SlurmRefusedError and SlurmUnavailableError; no script is left then."""
    job.script.parent.mkdir(parents=True, exist_ok=True)
    job.script.write_text(script_of(job, launcher), "utf-8")
    try:
        element = Slurm(launcher.cluster).submit(job.script)
    except BaseException:
        job.script.unlink()
        raise
    submitted = SubmittedJob(
        job=element.job,
        tasks=job.tasks,
        purpose=purpose,
        cluster=launcher.cluster,
        submitted=time.time(),
        script=str(job.script),
        profile=to_plain(launcher),
    )
    record_job(place, submitted)
    return submitted


def alive_elements(jobs: Iterable[SubmittedJob]) -> list[QueuedElement]:
    """Those of these jobs' elements that wait or run; one question for each cluster. Raises SlurmUnavailableError."""
    by_cluster: dict[str | None, set[int]] = defaultdict(set)
    for job in jobs:
        by_cluster[job.cluster].add(job.job)
    return [queued for cluster, numbers in by_cluster.items() for queued in Slurm(cluster).queue(numbers) if queued.state.is_alive]


def alive_workers(study: StudyDirectory) -> list[QueuedElement]:
    """The elements of a study's arrays of workers that wait or run. Raises SlurmUnavailableError."""
    return alive_elements(job for job in read_jobs(study) if job.purpose == "workers")


def cancel(jobs: Iterable[SubmittedJob], elements: Iterable[JobElement]) -> None:
    """Cancel elements of these jobs. Raises SlurmRefusedError and SlurmUnavailableError."""
    cluster_of = {job.job: job.cluster for job in jobs}
    by_cluster: dict[str | None, list[JobElement]] = defaultdict(list)
    for element in elements:
        by_cluster[cluster_of.get(element.job)].append(element)
    for cluster, chosen in by_cluster.items():
        Slurm(cluster).cancel(chosen)
