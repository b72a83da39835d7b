"""Which parameters mattered: the share of each in the variance of a study's objective."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.report.columns import space_of
from harness.runs.record import StudyRecord

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.importance import BaseImportanceEvaluator
    from optuna.trial import FrozenTrial

MINIMUM_TRIALS = 4
FANOVA_TRIALS = 300
"""fANOVA's forest takes seconds beyond this many trials; PED-ANOVA takes over."""


def parameter_importances(study: StudyRecord) -> dict[str, float]:
    """Shares that add up to 1, largest first; {} with fewer than four complete trials, or when all did equally well."""
    points = [
        (run.params, run.result.objective)
        for run in study.runs
        if run.state == "complete" and run.result.objective is not None and math.isfinite(run.result.objective)
    ]
    if len(points) < MINIMUM_TRIALS or len({objective for _, objective in points}) == 1:
        return {}
    seen = {key: [params[key] for params, _ in points if key in params] for key in space_of(study)}
    parameters = [_Parameter(key, domain, seen[key]) for key, domain in space_of(study).items() if seen[key]]
    sign = -1 if study.objective.direction == "maximize" else 1
    return _evaluate(parameters, [(params, sign * objective) for params, objective in points])


class _Parameter:
    """A parameter on the scale on which it was searched.

    Optuna's fANOVA integrates over the plain range even of a log parameter, where all rates below 3e-3 are a tenth of 1e-4..3e-2: the
    logarithm is taken here.
    """

    def __init__(self, key: str, domain: dict[str, Any], seen: list[Any]) -> None:
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        self.key = key
        self.log = bool(domain.get("log"))
        self.distribution: BaseDistribution
        if "choices" in domain:
            labels = list(dict.fromkeys(str(choice) for choice in [*domain["choices"], *seen]))
            self.distribution = CategoricalDistribution(labels)
            self.middle: Any = labels[0]
        else:
            # A continued study may hold trials from outside the range that it searches now.
            positions = [self.position(value) for value in (domain["low"], domain["high"], *seen)]
            self.distribution = FloatDistribution(min(positions), max(positions))
            self.middle = (self.distribution.low + self.distribution.high) / 2

    def position(self, value: Any) -> float:
        return math.log(float(value)) if self.log else float(value)

    def coordinate(self, params: dict[str, Any]) -> Any:
        """Where a trial lies; one in which the parameter is not active lies in the middle, where it says least."""
        from optuna.distributions import CategoricalDistribution

        if self.key not in params:
            return self.middle
        value = params[self.key]
        return str(value) if isinstance(self.distribution, CategoricalDistribution) else self.position(value)


def _evaluate(parameters: list[_Parameter], points: list[tuple[dict[str, Any], float]]) -> dict[str, float]:
    import optuna

    with _quiet():
        study = optuna.create_study(storage=optuna.storages.InMemoryStorage())
        study.add_trials([_frozen(parameters, params, objective) for params, objective in points])
        evaluator: BaseImportanceEvaluator = (
            optuna.importance.FanovaImportanceEvaluator(seed=0)
            if len(points) <= FANOVA_TRIALS
            else optuna.importance.PedAnovaImportanceEvaluator()
        )
        weights = optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=False)
    total = sum(weights.values())
    if not total > 0:
        return {}
    return {key: float(weight / total) for key, weight in sorted(weights.items(), key=lambda item: -item[1])}


def _frozen(parameters: list[_Parameter], params: dict[str, Any], objective: float) -> FrozenTrial:
    import optuna

    return optuna.trial.create_trial(
        params={parameter.key: parameter.coordinate(params) for parameter in parameters},
        distributions={parameter.key: parameter.distribution for parameter in parameters},
        value=objective,
    )


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
