"""What earlier studies say of a new one: where each parameter on a log scale has its optimum, by laws of the model's size and the tokens.

The laws are those of `harness.search.scaling`, of any parameter whose optimum lies inside the ranges that were searched (for rate and
batch: Step Law, Li et al. 2025, arXiv:2503.04715). A law is believed where it predicts studies that it was not fitted to better than the
nearest of the others does. Studies under the same constraints come first, whatever their size: a bound moves an optimum further than a size
does, and no law knows how far. Of these, those whose optimum is fitted come first: a best single trial may lie anywhere.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.config.errors import InputError
from harness.config.schema import Config
from harness.config.sweep_schema import SweepConfig
from harness.search.around_earlier import Around, neighbours
from harness.search.earlier_studies import Earlier, Point, earlier_studies
from harness.search.fitted_surface import LEAST_NOISE, Surface
from harness.search.parameter import Parameter
from harness.search.scaling import LEAST_SPREAD, UNKNOWN_SPREAD, PowerLaw, fit_power_law, model_size
from harness.search.space import Space

LEAST_STUDIES = 3
"""With fewer a law cannot be told from a line through points; the nearest study stands for it."""

LEAST_TRIALS = 4
"""The best of fewer, with no surface fitted to them, says less than studies under other constraints do."""


@dataclass(frozen=True)
class Predicted:
    """The optimum of one parameter."""

    key: str
    value: float
    law: PowerLaw | None
    """None: that of the nearest study."""
    studies: list[Earlier]
    """That it rests on, the nearest first."""
    error: float | None
    """Factor by which studies that were left out are missed, one standard deviation; None for a single study."""

    @property
    def spread(self) -> float:
        least = LEAST_SPREAD if self.studies[0].has_same_constraints else UNKNOWN_SPREAD
        return max(least, self.error or UNKNOWN_SPREAD)

    def text(self) -> str:
        nearest, count = self.studies[0], len(self.studies)
        under = "" if nearest.has_same_constraints else " under other constraints"
        missed = (
            "nothing says how well that holds"
            if self.error is None
            else f"left out one by one, they are met within a factor of {self.error:.3g}"
        )
        if self.law is None:
            is_fitted = nearest.is_fitted(self.key)
            kind = "the optimum" if is_fitted else "the best single trial"
            why = "" if is_fitted else ", since no surface fits the trials of any"
            return f"{self.key} {self.value:.3g}, {kind} of {nearest.name}, the nearest of {count}{under}{why}: {missed}"
        terms = [f"{math.exp(self.law.intercept):.3g}", *(f"{name}^{exponent:.3g}" for name, exponent in _exponents(self.law))]
        return f"{self.key} {self.value:.3g} = {' · '.join(terms)} over {count} studies{under}: {missed}"


def _exponents(law: PowerLaw) -> Iterator[tuple[str, float]]:
    yield from ((name, exponent) for name, exponent in (("N", law.size), ("D", law.tokens)) if exponent)


def start_from_earlier(
    config: SweepConfig, space: Space, base: Config, tokens: int, *, name: str
) -> tuple[list[Point], dict[str, dict[str, float]], Around | None, list[str]]:
    """The points to begin with, the prior, what is expected around the prediction, and what was found, in words.

    The prediction comes first, then what is expected around it proposes (`Around`); without that its neighbours at a factor of about √2,
    the nearest first.

    tokens: of this sweep's runs; name: of this study, which is not asked. Raises InputError where no parameter has a log scale, and for
    named studies that cannot be read.
    """
    parameters = [parameter for parameter in space.parameters if parameter.log and not parameter.when]
    if not parameters:
        raise InputError(
            "search.prior=earlier: needs a parameter on a log scale in the space, e.g. optim.lr: {low: 1e-5, high: 1e-2, log: true}"
        )
    size = model_size(base.model)
    found, left_out = earlier_studies(config, parameters, base, name)
    predicted = [one for parameter in parameters if (one := predict(parameter, found, size, tokens)) is not None]
    unused = _unused(found, predicted, parameters)
    said = [f"search.prior=earlier: {one}: {why}" for one, why in (left_out | unused).items()] if config.search.scaling_studies else []
    # Who names none is told how many, and how to hear more.
    hint = f"; left out of those at hand: {len(left_out)} (named in search.scaling_studies, it is said why)"
    count = hint if left_out and not config.search.scaling_studies else ""
    if not predicted:
        lack = f"of {len(found)} earlier studies none has an optimum inside its range" if found else "no earlier study is comparable"
        return [], {}, None, [*said, f"search.prior=earlier: {lack}{count}; the search begins as without a prior"]
    found = [*predicted[0].studies, *(study for study in by_distance(found, size, tokens) if study not in predicted[0].studies)]
    centre = {one.key: float(space[one.key].nearest(one.value)) for one in predicted}
    prior = {one.key: {"mean": centre[one.key], "spread": one.spread} for one in predicted}
    others = {key: value for key, value in found[0].best.items() if key not in prior and _holds(space, key, value)}
    # Runs of several lengths, and of several arms, have no surface in common.
    around = None if config.search.name == "trunk" or config.search.arms else expected_around(predicted, found, centre, others)
    begun = config.search.startup_trials if config.budget.trials is None else min(config.search.startup_trials, config.budget.trials // 2)
    begun = max(1, begun) if around is None else 1
    points = [{**others, **point} for point in itertools.islice(neighbours(space, {one.key: one.value for one in predicted}), begun)]
    nearest = ", ".join(f"{study.name} ({study.size / size:.3g} N, {study.tokens / tokens:.3g} D)" for study in found[:3])
    notes = [*said, *(f"search.prior=earlier: {one.text()}" for one in predicted)]
    if around is None:
        first = f"trials 0 to {len(points) - 1} are the prediction and its neighbours"
    else:
        first = "trial 0 is the prediction, the next ones its neighbours, then where these move the optimum"
    return points, prior, around, [*notes, f"search.prior=earlier: nearest of {len(found)}: {nearest}{count}; {first}"]


def expected_around(predicted: Sequence[Predicted], found: Sequence[Earlier], centre: dict[str, float], beside: Point) -> Around | None:
    """A surface with the mean shape of those studies that have one over all that is predicted; None where there are none."""
    keys = list(centre)
    surfaces = []
    for study in found:
        if study.shape is not None and {*keys} <= {*study.shape.keys}:
            places = [study.shape.keys.index(key) for key in keys]
            curvature = study.shape.surface.curvature
            surfaces.append(([[curvature[i][j] for j in places] for i in places], study.shape.surface.noise))
    if not surfaces:
        return None
    curvature = [[statistics.fmean(one[i][j] for one, _ in surfaces) for j in range(len(keys))] for i in range(len(keys))]
    # In logarithms: a study of another shape should not make all of them noisy.
    noise = statistics.geometric_mean(max(noise, LEAST_NOISE) for _, noise in surfaces)
    surface = Surface([math.log(value) for value in centre.values()], curvature, noise, [False] * len(keys))
    return Around(keys, asdict(surface), [math.log(one.spread) for one in predicted], beside)


def predict(parameter: Parameter, found: Sequence[Earlier], size: int, tokens: int) -> Predicted | None:
    """The optimum of a parameter at this size and length; None where no study has one."""
    key = parameter.key
    known = by_distance([study for study in found if key in study.optima], size, tokens)
    tells = [study for study in known if study.is_fitted(key) or len(study.trials) >= LEAST_TRIALS]
    known = [study for study in tells if study.has_same_constraints] or known
    fitted = [study for study in known if study.is_fitted(key)]
    known = fitted or known
    if not known:
        return None
    misses_nearest = [_log_ratio(key, study, _nearest(study, known).optima[key]) for study in known if len(known) > 1]
    error = _factor(misses_nearest)
    if len(fitted) >= LEAST_STUDIES:
        misses = [_log_ratio(key, study, _law(key, _without(known, study)).at(study.size, study.tokens)) for study in known]
        error_of_law = _factor(misses)
        if error_of_law is not None and error is not None and error_of_law <= error:
            law = _law(key, known)
            return Predicted(key, law.at(size, tokens), law, known, error_of_law)
    return Predicted(key, known[0].optima[key], None, known, error)


def by_distance(studies: Sequence[Earlier], size: int, tokens: int) -> list[Earlier]:
    """The nearest first; of equally near ones, that of more trials."""
    return sorted(studies, key=lambda study: (study.distance(size, tokens), -len(study.trials)))


def _unused(found: Sequence[Earlier], predicted: Sequence[Predicted], parameters: Sequence[Parameter]) -> dict[str, str]:
    """The comparable studies that nothing rests on, and why."""
    used = {study.name for one in predicted for study in one.studies}
    keys = " or ".join(parameter.key for parameter in parameters)
    return {
        study.name: f"it has no optimum of {keys} inside a range that it searched"
        if not study.optima
        else "it had other constraints than others that are asked"
        if not study.has_same_constraints
        else "no optimum could be fitted to its trials, as to those of others"
        for study in found
        if study.name not in used
    }


def _law(key: str, studies: Sequence[Earlier]) -> PowerLaw:
    return fit_power_law(studies, [study.optima[key] for study in studies])


def _without(studies: Sequence[Earlier], left_out: Earlier) -> list[Earlier]:
    return [study for study in studies if study is not left_out]


def _nearest(study: Earlier, known: Sequence[Earlier]) -> Earlier:
    return min(_without(known, study), key=lambda other: other.distance(study.size, study.tokens))


def _log_ratio(key: str, study: Earlier, predicted: float) -> float:
    return math.log(predicted / study.optima[key])


def _factor(misses: Sequence[float]) -> float | None:
    return math.exp(math.sqrt(sum(miss**2 for miss in misses) / len(misses))) if misses else None


def _holds(space: Space, key: str, value: Any) -> bool:
    parameter = next((parameter for parameter in space.parameters if parameter.key == key), None)
    return parameter is not None and not parameter.when and parameter.holds(value)
