"""Synthetic data that are made by jobs of a Slurm cluster: an array of workers that claim shards; no process stays on the login node."""

from __future__ import annotations

from pathlib import Path

from harness.config.launcher_schema import LauncherConfig
from harness.config.schema import TrainerConfig
from harness.launch.slurm import submission
from harness.launch.slurm.script import BatchJob
from harness.runs.directory import runs_root
from harness.runs.submitted_jobs import read_jobs
from harness.synthesis.directory import SynthDirectory
from harness.synthesis.recipe import Recipe
from harness.work.cluster import Submitted, check_launcher, launch_lock, removed_on_failure
from harness.work.synth import begin
from harness.work.synth_teacher import LocalTeacher


def synth_script(recipe: Recipe, path: Path | None, launcher: LauncherConfig) -> str:
    """The batch script that `launch_synth` would submit for a data set without workers; nothing is written."""
    directory = SynthDirectory(path or runs_root() / recipe.name)
    return submission.script_of(_job(directory, recipe, launcher, launcher.workers), launcher)


def launch_synth(recipe: Recipe, path: Path | None, launcher: LauncherConfig) -> Submitted | None:
    """Begin a data set, or go on with it, and submit the workers that it lacks. None where all texts are written, and nobody is needed.

    Raises InputError, with Slurm's own words, for what the cluster refuses (nothing is left then of a new data set), and
    SlurmUnavailableError.
    """
    directory = SynthDirectory(path or runs_root() / recipe.name)
    submission.check_accepted(_job(directory, recipe, launcher, launcher.workers), launcher)
    with removed_on_failure(directory.path):
        begun = begin(recipe, path)
        with launch_lock(directory):
            if directory.ledger().is_whole(begun.plan.shards):
                return None
            with directory.changing() as ledger:
                ledger.keep_to(recipe.config.budget)
            present = len(submission.alive_elements(read_jobs(directory)))
            missing = min(launcher.workers, begun.plan.shards) - present
            if missing <= 0:
                return Submitted(directory, None, present)
            directory.stop_request.unlink(missing_ok=True)
            with directory.changing() as ledger:
                ledger.refused = None  # the budget may be another one now
            job = submission.submit(directory, _job(directory, recipe, launcher, missing), launcher, purpose="workers")
            return Submitted(directory, job, present)


def _job(directory: SynthDirectory, recipe: Recipe, launcher: LauncherConfig, count: int) -> BatchJob:
    """An array of workers. Raises InputError for a launcher that cannot launch them."""
    trainer = _trainer(recipe)
    check_launcher(launcher, trainer)
    return submission.synth_job(directory, launcher, trainer, count=count)


def _trainer(recipe: Recipe) -> TrainerConfig:
    """One device for the local teachers, where one of them wants more than the CPU."""
    local = [LocalTeacher(recipe, name).config for name, one in recipe.config.teachers.items() if one.endpoint is None]
    return TrainerConfig(accelerator="auto" if any(config.trainer.accelerator != "cpu" for config in local) else "cpu")
