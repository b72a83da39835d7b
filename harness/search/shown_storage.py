"""Optuna's record of a study as optuna-dashboard should show it: with our best trial, our constraints, and what files say of each run."""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, TrialState

from harness.config.documents import DamagedError
from harness.runs.directory import StudyDirectory
from harness.runs.files import read_yaml
from harness.runs.record import load_study
from harness.runs.result import FINAL_STATES, read_result
from harness.runs.trial import read_trial
from harness.search.parameter import labels
from harness.search.space import parse_space

if TYPE_CHECKING:
    from optuna.study import StudyDirection

    from harness.search.storage.batches import Batches

PREFIX = "constraints:"
"""Optuna 5 stores a constraint a key; optuna-dashboard reads the list under CONSTRAINTS, and takes a trial without one for feasible."""
CONSTRAINTS = "constraints"


def shown_front(directory: StudyDirectory, trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> list[FrozenTrial]:
    """Of several objectives, the trials that `harness best` names; without one, that which is nearest to the constraints."""
    study = load_study(directory)
    named = study.pareto or ([study.nearest] if study.nearest else [])
    numbers = {run.number for run in named}
    return [trial for trial in trials if trial.number in numbers]


class ShownStorage(JournalStorage):
    """The record, read for display. Nothing of what is added is stored."""

    def __init__(self, log: Batches, directory: StudyDirectory) -> None:
        super().__init__(log)
        self._directory = directory
        self._ended: dict[int, dict[str, Any]] = {}
        """Of runs that have ended, which do not change."""
        self._settled: dict[int, tuple[dict[str, Any], dict[str, BaseDistribution]]] = {}
        """The values of trials that have ended."""
        self._parameters = {parameter.key: parameter for parameter in parse_space(read_yaml(directory.sweep)["space"]).parameters}

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        return [self._shown(trial) for trial in super().get_all_trials(study_id, deepcopy, states)]

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """The trial that `harness best` names; without one, that which is nearest to the constraints."""
        study = load_study(self._directory)
        best = study.best or study.nearest
        trials = self.get_all_trials(study_id, deepcopy=False)
        found = next((trial for trial in trials if best is not None and trial.number == best.number), None)
        return found or super().get_best_trial(study_id)

    def _shown(self, trial: FrozenTrial) -> FrozenTrial:
        shown = copy.copy(trial)
        margins = [value for key, value in trial._system_attrs.items() if key.startswith(PREFIX)]
        shown._system_attrs = {**trial._system_attrs, **({CONSTRAINTS: margins} if margins else {})}
        shown._user_attrs = {**trial._user_attrs, **self._of_run(trial.number)}
        shown._params, shown._distributions = self._settled.get(trial.number) or self._values(trial)
        if trial.state.is_finished():
            self._settled[trial.number] = shown._params, shown._distributions
        return shown

    def _values(self, trial: FrozenTrial) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        """The trial's values as it has them: choices instead of their places, and what was moved to a multiple."""
        params, distributions = dict(trial._params), dict(trial._distributions)
        try:
            known = read_trial(self._directory.trial(trial.number))
        except DamagedError:
            known = None
        for key in params:
            parameter = self._parameters.get(key)
            if parameter is not None and parameter.ordered:
                params[key] = labels(parameter.choices)[params[key]]
                distributions[key] = CategoricalDistribution(labels(parameter.choices))
            elif known is not None and known.params is not None and isinstance(known.params.get(key), int | float):
                params[key] = known.params[key]
        return params, distributions

    def _of_run(self, number: int) -> dict[str, Any]:
        """Metrics, tokens, seconds and place of a trial's run."""
        if number in self._ended:
            return self._ended[number]
        run = self._directory.trial(number)
        try:
            result = read_result(run)
        except DamagedError as error:  # it leaves the others as they are
            return {"run": str(run.path), "damaged": str(error)}
        facts = {"run": str(run.path), "tokens": result.tokens.reached, "seconds": round(result.seconds, 1), **result.metrics}
        if result.state in FINAL_STATES:
            self._ended[number] = facts
        return facts
