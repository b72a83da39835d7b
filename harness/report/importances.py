"""Parameter importances of a study, over its complete trials of full length."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.report import ped_anova
from harness.report.columns import space_of
from harness.runs.record import StudyRecord

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

MINIMUM_TRIALS = 4
NONE_FOUND = f"they take {MINIMUM_TRIALS} complete trials of full length that differ in their objective"
ROUGH_TRIALS = 10
"""With fewer than so many for each parameter, chance decides much."""
LEAST_SHARE = 0.005
REDRAWS = 40
"""Of the trials, for intervals."""
FANOVA_TRIALS = 300
"""Beyond this many trials fANOVA takes seconds, and PED-ANOVA is used."""


@dataclass(frozen=True)
class Importances:
    """How much each parameter matters."""

    shares: dict[str, float] = field(default_factory=dict)
    """By parameter, the largest first; they add up to 1. Empty with fewer than four trials, or equal objectives."""
    of: str = ""
    """What the shares are of."""
    note: str = ""
    """The method, the number of trials, and whether that is few."""
    is_rough: bool = False
    """Whether other trials of as many would give quite other shares."""
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By parameter, the middle nine tenths of its shares over trials drawn again from these; empty where that would take seconds."""

    def text(self, key: str) -> str:
        """33%, 33% (28% to 41%), or "about 33%" of a few trials."""
        if self.shares[key] < LEAST_SHARE:
            return "<1%"
        share = f"{self.shares[key]:.0%}"
        if key in self.intervals:
            low, high = self.intervals[key]
            return f"{share} ({low:.0%} to {high:.0%})"
        return f"about {share}" if self.is_rough else share


def parameter_importances(study: StudyRecord) -> Importances:
    """Of the study's complete trials of full length: objectives of different lengths do not compare."""
    points = [
        (run.params, run.result.objective)
        for run in study.runs
        if run.state == "complete"
        and run.result.objective is not None
        and math.isfinite(run.result.objective)
        and study.has_full_length(run)
    ]
    if len(points) < MINIMUM_TRIALS or len({objective for _, objective in points}) == 1:
        return Importances()
    params = [of_run for of_run, _ in points]
    costs = [study.objective.sign * objective for _, objective in points]
    parameters = [_Parameter(key, domain, params) for key, domain in space_of(study).items() if any(key in of_run for of_run in params)]
    if len(points) > FANOVA_TRIALS:
        observed = {parameter.key: parameter.observed(params) for parameter in parameters}
        shares = _shares(ped_anova.weights(observed, costs))
        what, note = "share in what sets the best tenth of trials apart", f"PED-ANOVA over {len(points)} trials, 90% intervals"
        return Importances(shares, what, note, intervals=_intervals(observed, costs) if shares else {})
    is_rough = len(points) < ROUGH_TRIALS * len(parameters)
    note = f"rough: {len(points)} trials, by fANOVA" if is_rough else f"fANOVA over {len(points)} trials"
    return Importances(_shares(_fanova(parameters, params, costs)), "share of the objective's variance", note, is_rough)


def _shares(weights: dict[str, float]) -> dict[str, float]:
    """The largest first; empty where nothing matters."""
    total = sum(weights.values())
    return {key: float(weight / total) for key, weight in sorted(weights.items(), key=lambda item: -item[1])} if total > 0 else {}


def _intervals(observed: dict[str, ped_anova.Observed], costs: list[float]) -> dict[str, tuple[float, float]]:
    """By bootstrap over trials."""
    draws = random.Random(0)
    found: dict[str, list[float]] = {key: [] for key in observed}
    for _ in range(REDRAWS):
        drawn = [draws.randrange(len(costs)) for _ in costs]
        again = {key: replace(one, at=[one.at[index] for index in drawn]) for key, one in observed.items()}
        for key, share in _shares(ped_anova.weights(again, [costs[index] for index in drawn])).items():
            found[key].append(share)
    edge = REDRAWS // 20
    return {key: (sorted(shares)[edge], sorted(shares)[-1 - edge]) for key, shares in found.items() if len(shares) == REDRAWS}


class _Parameter:
    """A parameter on the scale on which it was searched.

    Optuna's fANOVA integrates over the plain range even of a log parameter, where all rates below 3e-3 are a tenth of 1e-4..3e-2: the
    logarithm is taken here. Trials in which it is not active are put in the middle.
    """

    def __init__(self, key: str, domain: dict[str, Any], params: list[dict[str, Any]]) -> None:
        self.key = key
        self._is_log = bool(domain.get("log"))
        # A continued study may hold trials from outside the range that it searches now.
        seen = [of_run[key] for of_run in params if key in of_run]
        self._labels: list[str] = []
        if "choices" in domain:
            self._labels = list(dict.fromkeys(str(choice) for choice in [*domain["choices"], *seen]))
        else:
            positions = [self._position(value) for value in (domain["low"], domain["high"], *seen)]
            self._low, self._high = min(positions), max(positions)

    def _position(self, value: Any) -> float:
        return math.log(float(value)) if self._is_log else float(value)

    def coordinate(self, params: dict[str, Any]) -> Any:
        """Where a trial lies."""
        if self._labels:
            return str(params.get(self.key, self._labels[0]))
        return self._position(params[self.key]) if self.key in params else (self._low + self._high) / 2

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        return CategoricalDistribution(self._labels) if self._labels else FloatDistribution(self._low, self._high)

    def observed(self, params: list[dict[str, Any]]) -> ped_anova.Observed:
        """The trials on the parameter's grid."""
        at = [self.coordinate(of_run) for of_run in params]
        if self._labels:
            return ped_anova.Observed(len(self._labels), [self._labels.index(label) for label in at], is_choice=True)
        return ped_anova.on_grid(at, self._low, self._high)


def _fanova(parameters: list[_Parameter], params: list[dict[str, Any]], costs: list[float]) -> dict[str, float]:
    import optuna

    distributions = {parameter.key: parameter.distribution() for parameter in parameters}
    with _quiet():
        study = optuna.create_study(storage=optuna.storages.InMemoryStorage())
        for of_run, cost in zip(params, costs, strict=True):
            at = {parameter.key: parameter.coordinate(of_run) for parameter in parameters}
            study.add_trial(optuna.trial.create_trial(params=at, distributions=distributions, value=cost))
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=False)


@contextmanager
def _quiet() -> Iterator[None]:
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
