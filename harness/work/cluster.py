"""Studies and single runs on a Slurm cluster; no process stays on the login node."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.checks.launcher import launcher_problems
from harness.config.errors import InputError
from harness.config.launcher_schema import LauncherConfig
from harness.config.schema import TrainerConfig
from harness.config.validate import to_section
from harness.launch.slurm import submission
from harness.launch.slurm.commands import SlurmUnavailableError
from harness.launch.slurm.job_elements import JobElement, QueuedElement
from harness.launch.slurm.script import BatchJob
from harness.runs.confirmation_plan import confirmation_directory
from harness.runs.directory import RunDirectory, StudyDirectory, runs_root
from harness.runs.locks import hold
from harness.runs.submitted_jobs import Place, SubmittedJob, read_jobs
from harness.work.prepare import prepare_apart, prepare_arguments
from harness.work.start_study import common_to_trials, has_trained, launcher_of

if TYPE_CHECKING:
    from harness.config.schema import Config
    from harness.search.sweep import Sweep

LOCK_SECONDS = 30.0


@dataclass(frozen=True)
class Submitted:
    """The result of a launch."""

    place: Place
    job: SubmittedJob | None
    """None where no worker was missing."""
    present: int = 0
    """Workers that waited or ran already."""
    preparation: SubmittedJob | None = None
    """The job that tokenizes, if one does."""
    is_finished: bool = False
    """Whether the study has nothing left to do."""


def check_launcher(launcher: LauncherConfig, trainer: TrainerConfig) -> None:
    """Raise InputError, one line a problem, for a launcher that cannot launch runs of this trainer."""
    problems = list(launcher_problems(launcher, trainer))
    if problems:
        raise InputError("\n".join(problems))


# Studies.


def study_script(sweep: Sweep) -> str:
    """The batch script that `launch_study` would submit for a study without workers; nothing is written."""
    launcher, trainer = sweep.config.launcher, sweep.base.config.trainer
    check_launcher(launcher, trainer)
    study = StudyDirectory(runs_root() / sweep.name)
    return submission.script_of(submission.worker_job(study, launcher, trainer, count=launcher.workers), launcher)


def launch_study(sweep: Sweep) -> Submitted:
    """Make the sweep's study, or go on with it, and submit the workers that it lacks.

    Raises InputError, with Slurm's own words, for what the cluster refuses (nothing is left then of a new study but tokenized text), and
    SlurmUnavailableError.
    """
    from harness.search.open_study import open_study
    from harness.search.status import read_status

    launcher, trainer = sweep.config.launcher, sweep.base.config.trainer
    check_launcher(launcher, trainer)
    study = StudyDirectory(runs_root() / sweep.name)
    # Before tokenizing, which may take long.
    submission.check_accepted(submission.worker_job(study, launcher, trainer, count=launcher.workers), launcher)
    unprepared = not has_trained(sweep)
    if unprepared and launcher.prepare == "here":
        prepare_apart(sweep.base.config, common_to_trials(sweep), environment=launcher.environment)
    with removed_on_failure(study.path):
        open_study(sweep)
        if read_status(study).is_finished:
            return Submitted(study, None, count_workers(study), is_finished=True)
        arguments = prepare_arguments(common_to_trials(sweep)) if unprepared and launcher.prepare == "job" else None
        return submit_workers(study, launcher, launcher.workers, prepare=arguments)


def submit_workers(
    study: StudyDirectory, launcher: LauncherConfig, wanted: int, *, prepare: list[str] | None = None, after: Sequence[int] = ()
) -> Submitted:
    """Submit workers up to `wanted`: those that wait or run already, here or elsewhere, are counted.

    prepare: arguments of the tokenization that they have to wait for; after: the jobs that they have to wait for besides.
    Raises InputError and SlurmUnavailableError.
    """
    trainer = trainer_of(study)
    check_launcher(launcher, trainer)
    with launch_lock(study):
        present = count_workers(study)
        missing = wanted - present
        if missing <= 0:
            return Submitted(study, None, present)
        return _submit(
            study,
            launcher,
            lambda first: submission.worker_job(study, launcher, trainer, count=missing, after=(*after, *first)),
            purpose="workers",
            prepare=prepare,
            present=present,
        )


def submit_wanted(study: StudyDirectory, *, after: Sequence[int] = ()) -> Submitted:
    """Submit the workers that a study that exists lacks, by the launcher that it was last launched with. after: as of `submit_workers`."""
    launcher = launcher_of(study)
    return submit_workers(study, launcher, launcher.workers, after=after)


def confirmation_script(study: StudyDirectory, launcher: LauncherConfig, workers: int) -> str:
    """The batch script that `submit_wanted` would submit for a confirmation of a study that has no workers yet; nothing is written."""
    trainer = trainer_of(study)
    check_launcher(launcher, trainer)
    job = submission.worker_job(confirmation_directory(study), launcher, trainer, count=workers)
    return submission.script_of(job, launcher)


def check_workers(study: StudyDirectory, launcher: LauncherConfig) -> None:
    """Raise InputError where the cluster would not take workers that train what this study does; nothing is written."""
    trainer = trainer_of(study)
    check_launcher(launcher, trainer)
    submission.check_accepted(submission.worker_job(study, launcher, trainer, count=launcher.workers), launcher)


def count_workers(study: StudyDirectory) -> int:
    """The workers of a study that wait or run: elements of its job arrays, and processes of machines. Raises SlurmUnavailableError."""
    waiting, working = workforce(study)
    return len(waiting) + len(working)


def workforce(study: StudyDirectory) -> tuple[list[QueuedElement], list[dict[str, Any]]]:
    """The elements of job arrays in which no worker has shown itself yet, and the workers that live and were not asked to leave."""
    from harness.search.workers import living_workers

    living = living_workers(study)
    at_work = {worker["job"] for worker in living}
    waiting = [queued for queued in submission.alive_workers(study) if str(queued.element) not in at_work]
    return waiting, [worker for worker in living if not study.leave_request(worker["id"]).exists()]


def trainer_of(study: StudyDirectory) -> TrainerConfig:
    """What the study's sweep was frozen with."""
    from harness.runs.files import read_yaml

    return to_section(TrainerConfig, read_yaml(study.sweep)["config"]["trainer"])


# Single runs.


def run_script(config: Config, launcher: LauncherConfig, run: RunDirectory) -> str:
    """The batch script that `launch_run` would submit; nothing is written."""
    check_launcher(launcher, config.trainer)
    return submission.script_of(submission.run_job(run, launcher, config.trainer), launcher)


def launch_run(config: Config, launcher: LauncherConfig, *, label: str | None = None, directory: Path | None = None) -> Submitted:
    """Make a run's directory and submit a job for it.

    Raises InputError, also for what the cluster refuses (nothing is left of the run then), and SlurmUnavailableError.
    """
    from harness.config.validate import to_plain
    from harness.runs.files import write_yaml
    from harness.work.start_run import make_directory

    check_launcher(launcher, config.trainer)
    named = directory is not None and directory.exists()
    run = make_directory(config, label=label, directory=directory)
    with removed_on_failure(run.path, existed=False, keep_directory=named):
        write_yaml(run.config, to_plain(config))
        return submit_run(run, config, launcher)


def submit_run(run: RunDirectory, config: Config, launcher: LauncherConfig) -> Submitted:
    """Submit a job that goes on with a run. Raises InputError where one does already, and SlurmUnavailableError."""
    check_launcher(launcher, config.trainer)
    with launch_lock(run):
        alive = submission.alive_elements(read_jobs(run))
        if alive:
            raise InputError(f"{run.path}: job {alive[0].element} works on it, or will: {alive[0].state.meaning}")
        job = submission.run_job(run, launcher, config.trainer)
        submission.check_accepted(job, launcher)
        unprepared = not run.metrics.path.exists()
        if unprepared and launcher.prepare == "here":
            prepare_apart(config, [], run.config, environment=launcher.environment)
        return _submit(
            run,
            launcher,
            lambda first: submission.run_job(run, launcher, config.trainer, after=first),
            purpose="run",
            prepare=prepare_arguments([], run.config) if unprepared and launcher.prepare == "job" else None,
        )


def _submit(
    place: Place,
    launcher: LauncherConfig,
    job: Callable[[tuple[int, ...]], BatchJob],
    *,
    purpose: str,
    prepare: list[str] | None = None,
    present: int = 0,
) -> Submitted:
    """Submit a job, and before it the preparation that it waits for, if there is one: both or neither.

    job: made of that one's id, or of none.
    """
    if prepare is None:
        return Submitted(place, submission.submit(place, job(()), launcher, purpose=purpose), present)
    first = submission.submit(place, submission.prepare_job(place, launcher, prepare), launcher, purpose="prepare")
    try:
        return Submitted(place, submission.submit(place, job((first.job,)), launcher, purpose=purpose), present, first)
    except BaseException:
        submission.cancel([first], [JobElement(first.job)])
        raise


@contextlib.contextmanager
def launch_lock(place: Place) -> Iterator[None]:
    """Keep two commands from submitting everything twice."""
    lock = hold(place.path / ".launch.lock", wait_seconds=LOCK_SECONDS)
    if lock is None:
        raise InputError(f"{place.path}: another command is submitting jobs for it just now; try again")
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def removed_on_failure(path: Path, *, existed: bool | None = None, keep_directory: bool = False) -> Iterator[None]:
    """Remove the new directory if no job could be submitted for it."""
    existed = path.exists() if existed is None else existed
    try:
        yield
    except (InputError, SlurmUnavailableError):
        if not existed:
            shutil.rmtree(path, ignore_errors=True)
            if keep_directory:
                path.mkdir()
        raise
