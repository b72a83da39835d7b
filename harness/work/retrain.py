"""The ingredients of a merge, trained again: with fresh seeds for a confirmation of the merge (`harness confirm --retrain`)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count, islice

from harness.config.errors import InputError, wrong_value
from harness.config.launcher_schema import LauncherConfig
from harness.config.merge_words import KEY
from harness.config.schema import Config, MergeConfig
from harness.launch.slurm.submission import alive_elements
from harness.runs.confirmation_plan import RUN, ConfirmationPlan, ingredient_run, read_plan
from harness.runs.directory import RunDirectory, StudyDirectory, run_called
from harness.runs.record import StudyRecord
from harness.runs.result import ENDED_WELL, FINAL_STATES, read_result
from harness.runs.run_config import load_run_config
from harness.runs.submitted_jobs import read_jobs
from harness.search.confirm import SEEDS
from harness.search.sweep import thaw
from harness.work.cluster import count_workers, launch_run, submit_run
from harness.work.kept_run import is_begun, kept_run

log = logging.getLogger("harness")


def retrained_words(study: StudyRecord) -> dict[str, str]:
    """By ingredient of a merge study that is a run here, the word for it with {run} in place of the run.

    Raises InputError for a study that merges nothing, and where no ingredient is a run, or one stands for several runs or is searched.
    """
    merge = _merge_of(study)
    searched = study.sweep.get("space") or {}
    found = {}
    for name, one in merge.ingredients.items():
        if f"{KEY}.ingredients.{name}.path" in searched:
            raise InputError(f"--retrain: space.{KEY}.ingredients.{name}.path is searched; valid: one model for each ingredient")
        if one.path.startswith(("study:", "confirm:", "trunk:")):
            valid = "valid with --retrain: a run or STUDY/NUMBER for each ingredient"
            raise InputError(f"{KEY}.ingredients.{name}.path={one.path}: stands for several runs; {valid}")
        run, word = _run_in(one.path)
        if run is None:
            log.warning("%s.ingredients.%s.path=%s: no run here, so it stays as it is with every seed", KEY, name, one.path)
        else:
            refuse_foreign_step(f"{KEY}.ingredients.{name}.path", one.path, run, word)
            found[name] = word
    if not found:
        raise InputError(f"--retrain: no ingredient of {study.name} is a run here, whose training could be done again")
    return found


def retrain(study: StudyRecord, confirmation: StudyDirectory, plan: ConfirmationPlan) -> None:
    """Train what the plan's open runs need and is not there yet, one after another, in this process.

    Nothing is done where the plan retrains no ingredient. Raises UnfinishedError where a run does not come to its end.
    """
    for config, run in _wanted(study, confirmation, plan):
        kept_run(config, run)


def submit_retraining(study: StudyRecord, confirmation: StudyDirectory, plan: ConfirmationPlan, *, launcher: LauncherConfig) -> None:
    """Submit a job for each run that `retrain` would train, but for those that one works on already.

    Raises InputError where workers of the confirmation wait or run, which would not wait for these jobs, and SlurmUnavailableError.
    """
    lacking = []
    for config, run in _wanted(study, confirmation, plan):
        result = read_result(run) if is_begun(config, run) else None
        if (result is None or result.state not in ENDED_WELL) and not alive_elements(read_jobs(run)):
            if result is not None and result.state == "failed":
                log.warning("%s: failed: %s", run.path, result.reason)
            lacking.append((config, run))
    if lacking and (present := count_workers(confirmation)):
        valid = f"valid: when they have ended, or after harness stop {confirmation.name}"
        raise InputError(f"--retrain: {present} workers of {confirmation.path} would not wait for further ingredients; {valid}")
    for config, run in lacking:
        submitted = submit_run(run, config, launcher) if run.config.exists() else launch_run(config, launcher, directory=run.path)
        assert submitted.job is not None, "a single run is submitted or refused"
        log.info("%s: job %d trains it first", run.path, submitted.job.job)


def awaited_jobs(confirmation: StudyDirectory) -> list[int]:
    """The jobs that train ingredients for a confirmation's open runs; none of any other study.

    Raises InputError where one is neither trained nor on its way, since its merges would fail, and SlurmUnavailableError.
    """
    plan = read_plan(confirmation)
    if plan is None:
        return []
    runs = [ingredient_run(confirmation, name, seed) for seed in _open_seeds(confirmation, plan) for name in plan.retrained]
    lacking = {run.path: read_jobs(run)[-1:] for run in runs if read_result(run).state not in ENDED_WELL}
    alive = {queued.element.job for queued in alive_elements(job for jobs in lacking.values() for job in jobs)}
    for path, jobs in lacking.items():
        if not jobs or jobs[0].job not in alive:
            raise InputError(f"{path}: an ingredient that is not trained, and no job is on it; valid: harness confirm {plan.study}")
    return [job.job for jobs in lacking.values() for job in jobs]


def _open_seeds(confirmation: StudyDirectory, plan: ConfirmationPlan) -> list[int]:
    """Those of runs that have not ended."""
    return sorted(
        {run["seed"] for number, run in enumerate(plan.runs) if read_result(confirmation.trial(number)).state not in FINAL_STATES}
    )


def _wanted(study: StudyRecord, confirmation: StudyDirectory, plan: ConfirmationPlan) -> Iterator[tuple[Config, RunDirectory]]:
    """The ingredients of the plan's open runs that are trained again, and where. Their seeds are those of `fresh_seed`."""
    if not plan.retrained:
        return
    merge = _merge_of(study)
    originals = {}
    for name in plan.retrained:
        run, _ = _run_in(merge.ingredients[name].path)
        if run is None:
            raise InputError(f"{KEY}.ingredients.{name}.path={merge.ingredients[name].path}: the run is gone")
        originals[name] = load_run_config(run)
    own = [config.seed for config in originals.values()]
    for seed in _open_seeds(confirmation, plan):
        for name, config in originals.items():
            fresh = fresh_seed(config.seed, own, place=(seed - plan.first_seed) % SEEDS)
            yield _again(config, fresh), ingredient_run(confirmation, name, seed)


def refuse_foreign_step(key: str, word: str, run: RunDirectory, again: str) -> None:
    """Raise InputError for RUN@STEP, given in `key`, where the run has no checkpoint of that step: trained again, it has none, either.

    again: the word with {run} in place of the run, or itself. A state of its study's trunk is stored for the study, not by the run.
    """
    from harness.models.checkpoint_files import checkpoints  # imports torch

    _, at, step = again.rpartition("@")
    own = checkpoints(run.checkpoints) if at else {}
    if step.isdigit() and at and int(step) not in own:
        valid = ", ".join(f"{word.rpartition('@')[0]}@{number}" for number in own) or "a model"
        raise wrong_value(
            key, word, f"{run.path} keeps no checkpoint of that step itself, so that it cannot be trained again; valid: {valid}"
        )


def fresh_seed(seed: int, own: Sequence[int], *, place: int) -> int:
    """What an ingredient of this seed is trained with at a place among the confirmation's seeds.

    own: the seeds of all ingredients that are trained again. It is none of these, and ingredients of different seeds have the same one at
    no two places; those that shared a seed share it again.
    """
    different = sorted(set(own))
    behind = (number % SEEDS for number in count(different[-1] + 1) if number % SEEDS not in different)
    return next(islice(behind, place * len(different) + different.index(seed), None))


def _again(config: Config, seed: int) -> Config:
    trainer = config.trainer
    if trainer.final_checkpoint == "none":
        trainer = replace(trainer, final_checkpoint="weights")
    return replace(config, seed=seed, trainer=trainer)


def _merge_of(study: StudyRecord) -> MergeConfig:
    merge = thaw(study.directory.sweep).base.config.model.merge
    if merge.method is None:
        raise InputError(f"--retrain: {study.name} merges no models; its own runs are trained again with fresh seeds without it")
    return merge


def _run_in(word: str) -> tuple[RunDirectory | None, str]:
    """The run that a word names, and the word with {run} in its place."""
    for name, rest in _readings(word):
        run = run_called(name)
        if run is not None:
            return run, rest
    return None, word


def _readings(word: str) -> Iterator[tuple[str, str]]:
    if word.startswith("run:"):
        yield word.removeprefix("run:"), f"run:{RUN}"
        return
    yield word, RUN
    name, at, step = word.rpartition("@")
    if at and step.isdigit():
        yield name, f"{RUN}@{step}"
