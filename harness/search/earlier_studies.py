"""The earlier studies and recipes at hand that looked for the same metric with the same kind of training, and where their optima lie."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

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
from harness.search.fitted_surface import Surface, fitted_surface
from harness.search.parameter import Parameter
from harness.search.scaling import model_size

OTHER_DATA = math.log(4)
"""A study of other data is as far away as one of four times the size."""
SAME_KIND = ("objective.name", "optim.name", "adapter.name")
"""What must be equal for optima to compare."""

Point = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """How a study's trials get worse around its optimum."""

    keys: tuple[str, ...]
    surface: Surface
    """Over the logarithms of these parameters."""


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
    shape: Shape | None = None
    """None where too few trials tell."""

    def distance(self, size: int, tokens: int) -> float:
        """How far from a study of this size and length, in logarithms."""
        return abs(math.log(size / self.size)) + abs(math.log(tokens / self.tokens)) + (0.0 if self.has_same_data else OTHER_DATA)


def earlier_studies(config: SweepConfig, parameters: Sequence[Parameter], base: Config, name: str) -> Iterator[Earlier]:
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
    found = optima_of(parameters, study.sweep.get("space") or {}, best.params, trials)
    return Earlier(study.name, size, tokens, best.config["data"]["sources"] == here, best.params, *found)


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
    found = optima_of(parameters, recipe.space, recipe.params, trials)
    return Earlier(f"best/{recipe.name}", size, recipe.tokens.length, values.get("data", {}).get("sources") == here, recipe.params, *found)


def optima_of(
    parameters: Sequence[Parameter], space: dict[str, Any], best: Point, trials: Sequence[tuple[Point, float]]
) -> tuple[dict[str, float], Shape | None]:
    """By parameter the optimum of a study, where it lies inside what was searched, and the surface that it was found by. space: as its
    sweep file has it; trials: points and what they cost, lower is better. Of trials, those that chose like the best one count."""
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
    keys = tuple(ranges)
    surface = fitted_surface([[math.log(point[key]) for key in keys] for point, _ in alike], [cost for _, cost in alike]) if keys else None
    found = {key: float(best[key]) for key in keys}
    if surface is not None:
        found |= {key: math.exp(x) for key, x, at_end in zip(keys, surface.lowest, surface.at_end, strict=True) if not at_end}
    optima = {key: value for key, value in found.items() if ranges[key][0] < value < ranges[key][1]}
    return optima, Shape(keys, surface) if surface else None


def _ends(spec: Any) -> tuple[float, float] | None:
    """Of a range, or of choices that are numbers."""
    if not isinstance(spec, dict):
        return None
    ends = [spec.get("low"), spec.get("high")] if "low" in spec else list(spec.get("choices") or [])
    numbers = [float(end) for end in ends if _is_positive(end)]
    return (min(numbers), max(numbers)) if len(numbers) == len(ends) > 1 else None


def _is_positive(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
