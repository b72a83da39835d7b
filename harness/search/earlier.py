"""What earlier studies say of a new one: where each parameter on a log scale has its optimum, by laws of the model's size and the tokens.

Of every study and recipe at hand that looked for the same metric with the same kind of training, the optimum is taken from a quadratic
surface fitted to its better trials, in logarithms, rather than from its luckiest one. The laws are those of `harness.search.scaling`, of
any parameter whose optimum lies inside the ranges that were searched (for rate and batch: Step Law, Li et al. 2025, arXiv:2503.04715). A
law is believed where it predicts studies that it was not fitted to better than the nearest of the others does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from harness.config.documents import DamagedError
from harness.config.errors import InputError
from harness.config.schema import Config, ModelConfig
from harness.config.sweep_schema import SweepConfig
from harness.config.user_yaml import read_mapping
from harness.config.validate import to_plain, to_section
from harness.runs.bundle import BundleDirectory, bundles
from harness.runs.directory import StudyDirectory, find_study, runs_root
from harness.runs.record import load_study
from harness.runs.trials_table import PARAMS, read_trials
from harness.search.bundle_prior import bundle_of
from harness.search.parameter import Parameter
from harness.search.scaling import LEAST_SPREAD, UNKNOWN_SPREAD, PowerLaw, fit_power_law, model_size
from harness.search.space import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEAST_STUDIES = 3
"""With fewer a law cannot be told from a line through points; the nearest study stands for it."""
OTHER_DATA = math.log(4)
"""A study of other data is as far away as one of four times the size."""
FACTOR = math.sqrt(2)
"""Between a prediction and its neighbours."""
SAME_KIND = ("objective.name", "optim.name", "adapter.name")
"""What must be equal for optima to compare."""

Point = dict[str, Any]


@dataclass(frozen=True)
class Earlier:
    """An earlier study, or recipe."""

    name: str
    size: int
    """Parameters of its model, without embeddings."""
    tokens: int
    has_same_data: bool
    best: Point
    """Its best trial."""
    optima: dict[str, float]
    """By parameter, of those whose optimum lies inside what was searched."""

    def distance(self, size: int, tokens: int) -> float:
        """How far from a study of this size and length, in logarithms."""
        return abs(math.log(size / self.size)) + abs(math.log(tokens / self.tokens)) + (0.0 if self.has_same_data else OTHER_DATA)


@dataclass(frozen=True)
class Predicted:
    """The optimum of one parameter."""

    key: str
    value: float
    law: PowerLaw | None
    """None: that of the nearest study."""
    studies: int
    error: float | None
    """Factor by which studies that were left out are missed, one standard deviation; None for a single study."""

    @property
    def spread(self) -> float:
        return max(LEAST_SPREAD, self.error or UNKNOWN_SPREAD)

    def text(self, nearest: str) -> str:
        missed = (
            "nothing says how well that holds"
            if self.error is None
            else f"left out one by one, they are met within a factor of {self.error:.3g}"
        )
        if self.law is None:
            return f"{self.key} {self.value:.3g}, the optimum of {nearest}, the nearest of {self.studies}: {missed}"
        terms = [f"{math.exp(self.law.intercept):.3g}", *(f"{name}^{exponent:.3g}" for name, exponent in _exponents(self.law))]
        return f"{self.key} {self.value:.3g} = {' · '.join(terms)} over {self.studies} studies: {missed}"


def _exponents(law: PowerLaw) -> Iterator[tuple[str, float]]:
    yield from ((name, exponent) for name, exponent in (("N", law.size), ("D", law.tokens)) if exponent)


def start_from_earlier(
    config: SweepConfig, space: Space, base: Config, tokens: int, *, name: str
) -> tuple[list[Point], dict[str, dict[str, float]], list[str]]:
    """The points to begin with, the prior, and what was found, in words.

    The prediction comes first, then its neighbours at a factor of about √2, the nearest first. tokens: of this sweep's runs; name: of this
    study, which is not asked. Raises InputError where no parameter has a log scale, and for named studies that cannot be read.
    """
    parameters = [parameter for parameter in space.parameters if parameter.log and not parameter.when]
    if not parameters:
        raise InputError(
            "search.prior=earlier: needs a parameter on a log scale in the space, e.g. optim.lr: {low: 1e-5, high: 1e-2, log: true}"
        )
    size = model_size(base.model)
    found = sorted(_observed(config, parameters, base, name), key=lambda study: study.distance(size, tokens))
    predicted = [one for parameter in parameters if (one := predict(parameter, found, size, tokens)) is not None]
    if not predicted:
        lack = f"of {len(found)} earlier studies none has an optimum inside its range" if found else "no earlier study is comparable"
        return [], {}, [f"search.prior=earlier: {lack}; the search begins as without a prior"]
    prior = {one.key: {"mean": float(space[one.key].nearest(one.value)), "spread": one.spread} for one in predicted}
    others = {key: value for key, value in found[0].best.items() if key not in prior and _holds(space, key, value)}
    count = config.search.startup_trials if config.budget.trials is None else min(config.search.startup_trials, config.budget.trials // 2)
    points = [
        {**others, **point} for point in itertools.islice(neighbours(space, {one.key: one.value for one in predicted}), max(1, count))
    ]
    nearest = ", ".join(f"{study.name} ({study.size / size:.3g} N, {study.tokens / tokens:.3g} D)" for study in found[:3])
    notes = [f"search.prior=earlier: {one.text(found[0].name)}" for one in predicted]
    first = f"trials 0 to {len(points) - 1} are the prediction and its neighbours"
    return points, prior, [*notes, f"search.prior=earlier: nearest of {len(found)}: {nearest}; {first}"]


def predict(parameter: Parameter, found: Sequence[Earlier], size: int, tokens: int) -> Predicted | None:
    """The optimum of a parameter at this size and length; None where no study has one. found: the nearest first."""
    known = [study for study in found if parameter.key in study.optima]
    if not known:
        return None
    nearest = known[0].optima[parameter.key]
    misses_nearest = [_log_ratio(parameter.key, study, _nearest(study, known).optima[parameter.key]) for study in known if len(known) > 1]
    error = _factor(misses_nearest)
    if len(known) >= LEAST_STUDIES:
        misses = [
            _log_ratio(parameter.key, study, _law(parameter.key, _without(known, study)).at(study.size, study.tokens)) for study in known
        ]
        error_of_law = _factor(misses)
        if error_of_law is not None and error is not None and error_of_law <= error:
            law = _law(parameter.key, known)
            return Predicted(parameter.key, law.at(size, tokens), law, len(known), error_of_law)
    return Predicted(parameter.key, nearest, None, len(known), error)


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


def neighbours(space: Space, centre: dict[str, float]) -> Iterator[Point]:
    """The centre, then the points around it on a lattice of factors of √2, the nearest first; each once, moved into the space."""
    reach = range(-2, 3)
    steps = sorted(itertools.product(reach, repeat=len(centre)), key=lambda step: (sum(x * x for x in step), tuple(-x for x in step)))
    seen = set()
    for step in steps:
        point = {key: space[key].nearest(value * FACTOR**x) for (key, value), x in zip(centre.items(), step, strict=True)}
        if tuple(point.values()) not in seen:
            seen.add(tuple(point.values()))
            yield point


def _holds(space: Space, key: str, value: Any) -> bool:
    parameter = next((parameter for parameter in space.parameters if parameter.key == key), None)
    return parameter is not None and not parameter.when and parameter.holds(value)


# What there is.


def _observed(config: SweepConfig, parameters: Sequence[Parameter], base: Config, name: str) -> Iterator[Earlier]:
    """The comparable studies and recipes: those that are named in search.scaling_studies, else all at hand."""
    named = config.search.scaling_studies
    kind = {key: value for key, value in _kind_of(to_plain(base)).items() if not {key, key.partition(".")[0]} & config.space.keys()}
    here = to_plain(base)["data"]["sources"]
    names = set()
    for directory in [find_study(one) for one in named if not one.startswith("best/")] if named else _studies(name):
        try:
            found = _of_study(directory, config, parameters, kind, here)
        except (InputError, DamagedError):
            if named:
                raise
            continue  # another one's damage, which its own commands tell of
        if found is not None:
            names.add(found.name)
            yield found
    for bundle in (
        [bundle_of(one, "search.scaling_studies") for one in named if one.startswith("best/")]
        if named
        else [bundle for _, bundle in bundles()]
    ):
        try:
            found = _of_recipe(bundle, config, parameters, kind, here, names)
        except (InputError, DamagedError):
            if named:
                raise
            continue
        if found is not None:
            yield found


def _studies(but: str) -> Iterator[StudyDirectory]:
    root = runs_root()
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        study = StudyDirectory(path)
        if path.name != but and study.sweep.is_file():
            yield study


def _kind_of(config: dict[str, Any]) -> dict[str, Any]:
    return {key: config.get(key.partition(".")[0], {}).get("name") for key in SAME_KIND}


def _of_study(
    directory: StudyDirectory, config: SweepConfig, parameters: Sequence[Parameter], kind: dict[str, Any], here: Any
) -> Earlier | None:
    study = load_study(directory)
    objective, best = study.objective, study.best
    if study.confirms is not None or best is None or not study.has_full_length(best) or best.result.tokens.read:
        return None
    if (objective.metric, objective.direction) != (config.objective.metric, config.objective.direction):
        return None
    if not kind.items() <= _kind_of(best.config).items():
        return None
    trials = [(run.params, run.result.objective) for run in study.ranked if study.has_full_length(run) and run.result.objective is not None]
    trials = [(params, objective.sign * value) for params, value in trials]
    size, tokens = model_size(to_section(ModelConfig, best.config["model"])), best.result.tokens.length
    if not tokens:
        return None
    optima = optima_of(parameters, study.sweep.get("space") or {}, best.params, trials)
    return Earlier(study.name, size, tokens, best.config["data"]["sources"] == here, best.params, optima)


def _of_recipe(
    directory: BundleDirectory, config: SweepConfig, parameters: Sequence[Parameter], kind: dict[str, Any], here: Any, known: set[str]
) -> Earlier | None:
    """known: studies that are at hand themselves."""
    recipe = directory.read()
    if (
        recipe.study is None
        or recipe.study in known
        or (recipe.metric, recipe.direction) != (config.objective.metric, config.objective.direction)
    ):
        return None
    values = read_mapping(directory.config, holds="the resolved configuration of a recipe")
    size = recipe.model.get("size")
    if not isinstance(size, int) or size <= 0 or not recipe.tokens.length or not kind.items() <= _kind_of(values).items():
        return None
    rows = [row for row in read_trials(directory.trials) if row.get("role") == "search" and row.get("state") == "complete"]
    sign = -1 if recipe.direction == "maximize" else 1
    trials = [
        ({key.removeprefix(PARAMS): value for key, value in row.items() if key.startswith(PARAMS)}, sign * float(row["objective"]))
        for row in rows
        if row.get("feasible") is not False and isinstance(row.get("objective"), int | float)
    ]
    optima = optima_of(parameters, recipe.space, recipe.params, trials)
    return Earlier(f"best/{recipe.name}", size, recipe.tokens.length, values.get("data", {}).get("sources") == here, recipe.params, optima)


# Where the optimum of a study is.


def optima_of(
    parameters: Sequence[Parameter], space: dict[str, Any], best: Point, trials: Sequence[tuple[Point, float]]
) -> dict[str, float]:
    """By parameter the optimum of a study, where it lies inside what was searched. space: as its sweep file has it; trials: points and
    what they cost, lower is better. Of trials, those that chose like the best one count."""
    ranges = {
        parameter.key: ends
        for parameter in parameters
        if (ends := _ends(space.get(parameter.key))) and _is_positive(best.get(parameter.key))
    }
    chosen = [key for key, spec in space.items() if isinstance(spec, dict) and "choices" in spec and key not in ranges]
    alike = [
        (point, cost)
        for point, cost in trials
        if all(point.get(key) == best.get(key) for key in chosen) and all(_is_positive(point.get(key)) for key in ranges)
    ]
    keys = list(ranges)
    fitted = fitted_optimum([[math.log(point[key]) for key in keys] for point, _ in alike], [cost for _, cost in alike]) if keys else None
    found = dict(zip(keys, map(math.exp, fitted), strict=True)) if fitted is not None else {key: float(best[key]) for key in keys}
    return {key: value for key, value in found.items() if ranges[key][0] < value < ranges[key][1]}


def _ends(spec: Any) -> tuple[float, float] | None:
    """Of a range, or of choices that are numbers."""
    if not isinstance(spec, dict):
        return None
    ends = [spec.get("low"), spec.get("high")] if "low" in spec else list(spec.get("choices") or [])
    numbers = [float(end) for end in ends if _is_positive(end)]
    return (min(numbers), max(numbers)) if len(numbers) == len(ends) > 1 else None


def _is_positive(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def fitted_optimum(points: Sequence[Sequence[float]], costs: Sequence[float]) -> list[float] | None:
    """The lowest point of a quadratic surface, fitted by weighted least squares to the best of the points, at most half of them.

    The better a point, the more it weighs. None where these are too few, or the surface has no lowest point among them.
    points: [points, parameters].
    """
    import numpy as np

    at, cost = np.array(points, dtype=float), np.array(costs, dtype=float)
    dimensions = at.shape[1] if at.ndim == 2 else 0
    pairs = list(itertools.combinations(range(dimensions), 2))
    terms = 1 + 2 * dimensions + len(pairs)
    if len(cost) <= terms:
        return None
    kept = np.argsort(cost, kind="stable")[: max(terms + 2, min(math.ceil(len(cost) / 2), 3 * terms))]
    at, cost = at[kept], cost[kept]
    centre, scale = at.mean(axis=0), at.std(axis=0)
    if not (scale > 0).all():
        return None
    x, excess = (at - centre) / scale, cost - cost.min()
    root_weights = 1 / (1 + excess / max(float(np.median(excess)), 1e-12)) ** 2
    design = np.column_stack([np.ones(len(x)), x, x**2, *(x[:, i] * x[:, j] for i, j in pairs)])
    if np.linalg.matrix_rank(design * root_weights[:, None]) < terms:
        return None
    coefficients, *_ = np.linalg.lstsq(design * root_weights[:, None], excess * root_weights, rcond=None)
    return _lowest(coefficients, pairs, x, centre, scale)


def _lowest(
    coefficients: NDArray[np.float64],
    pairs: list[tuple[int, int]],
    x: NDArray[np.float64],
    centre: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> list[float] | None:
    import numpy as np

    dimensions = x.shape[1]
    curvature = np.diag(2 * coefficients[1 + dimensions : 1 + 2 * dimensions])
    for (i, j), coefficient in zip(pairs, coefficients[1 + 2 * dimensions :], strict=True):
        curvature[i, j] = curvature[j, i] = coefficient
    if np.linalg.eigvalsh(curvature).min() <= 1e-9:
        return None
    lowest = -np.linalg.solve(curvature, coefficients[1 : 1 + dimensions])
    if ((lowest < x.min(axis=0)) | (lowest > x.max(axis=0))).any():
        return None
    found: list[float] = (centre + scale * lowest).tolist()
    return found
