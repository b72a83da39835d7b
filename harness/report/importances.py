"""Parameter importances of a study, over its complete trials of full length."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.report import ped_anova
from harness.report.columns import space_of
from harness.runs.record import StudyRecord

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

MINIMUM_TRIALS = 4
NONE_FOUND = f"they take {MINIMUM_TRIALS} complete trials of full length that differ in their objective"
FANOVA_TRIALS = 300
"""fANOVA's forest takes seconds beyond this many trials; PED-ANOVA, which needs a few dozen, takes over."""


@dataclass(frozen=True)
class Importances:
    """How much each parameter matters."""

    shares: dict[str, float] = field(default_factory=dict)
    """By parameter, the largest first; they add up to 1. Empty with fewer than four trials, or when all did equally well."""
    of: str = ""
    """What they are shares of."""
    note: str = ""
    """How they were found, and over how many trials."""


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
    seen = {key: [params[key] for params, _ in points if key in params] for key in space_of(study)}
    domains = {key: domain for key, domain in space_of(study).items() if seen[key]}
    costs = [study.objective.sign * objective for _, objective in points]
    if len(points) > FANOVA_TRIALS:
        weights = {
            key: ped_anova.weight(_observed(key, domain, [params for params, _ in points]), costs) for key, domain in domains.items()
        }
    else:
        parameters = [_Parameter(key, domain, seen[key]) for key, domain in domains.items()]
        weights = _fanova(parameters, [(params, cost) for (params, _), cost in zip(points, costs, strict=True)])
    total = sum(weights.values())
    if not total > 0:
        return Importances()
    shares = {key: float(weight / total) for key, weight in sorted(weights.items(), key=lambda item: -item[1])}
    if len(points) > FANOVA_TRIALS:
        return Importances(shares, "share in what sets the best tenth of trials apart", f"PED-ANOVA over {len(points)} trials")
    return Importances(shares, "share of the objective's variance", f"fANOVA over {len(points)} trials")


def _observed(key: str, domain: dict[str, Any], params: list[dict[str, Any]]) -> ped_anova.Observed:
    """A parameter on its grid; where it is not active it lies in the middle, where it says least."""
    if "choices" in domain:
        labels = list(dict.fromkeys(str(choice) for choice in [*domain["choices"], *(of_run[key] for of_run in params if key in of_run)]))
        return ped_anova.Observed(len(labels), [labels.index(str(of_run.get(key, labels[0]))) for of_run in params], is_choice=True)
    places = [_position(domain, of_run[key]) if key in of_run else None for of_run in params]
    given = [*(place for place in places if place is not None), _position(domain, domain["low"]), _position(domain, domain["high"])]
    low, high = min(given), max(given)
    return ped_anova.on_grid([(low + high) / 2 if place is None else place for place in places], low, high)


def _position(domain: dict[str, Any], value: Any) -> float:
    """On the scale on which the parameter was searched."""
    return math.log(float(value)) if domain.get("log") else float(value)


class _Parameter:
    """A parameter on the scale on which it was searched.

    Optuna's fANOVA integrates over the plain range even of a log parameter, where all rates below 3e-3 are a tenth of 1e-4..3e-2: the
    logarithm is taken here.
    """

    def __init__(self, key: str, domain: dict[str, Any], seen: list[Any]) -> None:
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        self.key = key
        self._domain = domain
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
        return _position(self._domain, value)

    def coordinate(self, params: dict[str, Any]) -> Any:
        """Where a trial lies; one in which the parameter is not active lies in the middle, where it says least."""
        from optuna.distributions import CategoricalDistribution

        if self.key not in params:
            return self.middle
        value = params[self.key]
        return str(value) if isinstance(self.distribution, CategoricalDistribution) else self.position(value)


def _fanova(parameters: list[_Parameter], points: list[tuple[dict[str, Any], float]]) -> dict[str, float]:
    import optuna

    with _quiet():
        study = optuna.create_study(storage=optuna.storages.InMemoryStorage())
        study.add_trials([_frozen(parameters, params, objective) for params, objective in points])
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=False)


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
