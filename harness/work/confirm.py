"""All rounds of a confirmation, however its runs are launched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from harness.config.errors import InputError, wrong_value
from harness.config.launcher_schema import LauncherConfig
from harness.runs.confirmation_plan import confirmation_directory, read_plan
from harness.runs.directory import StudyDirectory
from harness.runs.record import StudyRecord, load_study
from harness.search.confirm import open_confirmation
from harness.search.next_candidates import next_round
from harness.work.retrain import retrain, retrained_words, submit_retraining
from harness.work.start_study import launcher_of

Train = Callable[[StudyRecord, StudyDirectory], bool]
"""Called with a study and the directory of its confirmation: runs what has not ended; returns whether all has ended now."""


def confirm_in_rounds(
    study: StudyRecord,
    train: Train,
    *,
    top: int,
    seeds: int,
    trials: Sequence[int] = (),
    rounds: int = 1,
    workers: int | None = None,
    launcher: LauncherConfig | None = None,
    retrain_ingredients: bool = False,
) -> StudyRecord:
    """The study with its confirmation, when `train` returns False or no candidate is left.

    rounds: at most so many; each after the first takes `top` trials again, which `next_round` names. retrain_ingredients: of a merge study,
    those that are runs here are trained again for each seed: in this process, on Slurm in jobs. The others as of `open_confirmation`.
    The same call goes on where an earlier one stopped. Raises InputError as that does, before anything is trained, UnfinishedError
    where an ingredient's training did not come to its end, and SlurmUnavailableError.
    """
    if rounds < 1:
        raise wrong_value("--rounds", rounds, "expected at least 1")
    if trials and rounds > 1:
        raise InputError("--trial and --rounds exclude each other: the candidates are those that are named, or chosen round by round")
    refuse_retraining(study, asked=retrain_ingredients)
    launched_by = launcher or launcher_of(study.directory)
    in_jobs = launched_by.name == "slurm"
    first = partial(submit_retraining, study, launcher=launched_by) if in_jobs else partial(retrain, study)
    named = trials
    retrained = retrained_words(study) if retrain_ingredients else None
    while True:
        directory = open_confirmation(
            study,
            top=top,
            seeds=seeds,
            trials=named,
            workers=workers,
            launcher=launcher,
            retrained=retrained,
            first=first,
        )
        study = load_study(study.directory)
        assert study.confirmation is not None, "it was written"
        if not study.confirmation.is_complete:
            if not train(study, directory):
                return study
            study = load_study(study.directory)
        # Those that were named are all there is to run.
        named = () if trials else next_round(study, each=top, most=top * rounds)
        if not named:
            return study


def refuse_retraining(study: StudyRecord, *, asked: bool, detach: bool = False) -> None:
    """Raise InputError where ingredients cannot be trained again: those that are asked for, or those of the confirmation that there is."""
    plan = read_plan(confirmation_directory(study.directory))
    if not asked and not (plan is not None and plan.retrained):
        return
    if detach:
        raise InputError("--retrain: trains ingredients in this process before anything else; valid: without --detach")
    if study.sweep.get("confirms_itself"):
        raise InputError(f"--retrain: {study.name} confirms its best itself, with the ingredients as they are; valid: search.confirm=false")
