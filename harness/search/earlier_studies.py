"""The earlier studies and recipes at hand that looked for the same metric with the same kind of training, and where their optima lie."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from harness.config.documents import DamagedError, typed
from harness.config.errors import InputError
from harness.config.locations import in_home
from harness.config.nested import flat
from harness.config.private import with_paths
from harness.config.remote_path import is_remote
from harness.config.schema import Config, ModelConfig, SourceConfig
from harness.config.sweep_schema import SweepConfig
from harness.config.synth_path import is_made
from harness.config.user_yaml import read_mapping
from harness.config.validate import to_plain, to_section
from harness.runs.bundle import FOLDER, Bundle, BundleDirectory, bundles
from harness.runs.constraints import broken
from harness.runs.directory import StudyDirectory, find_study, runs_root
from harness.runs.record import load_study
from harness.runs.trials_table import PARAMS, Row, read_trials
from harness.search.bundle_prior import bundle_of
from harness.search.fitted_surface import Surface, fitted_surface
from harness.search.parameter import Parameter
from harness.search.scaling import model_size

NAMED = "search.scaling_studies"
OTHER_DATA = math.log(4)
"""A study of other data is as far away as one of four times the size."""
SAME_KIND = ("objective", "optim", "adapter")
"""Whose kinds must be equal for optima to compare."""
DEFAULTS = to_plain(SourceConfig(path=""))
"""Keys of a source that an older harness did not have."""
LENGTHS = ("trainer.max_tokens", "trainer.max_steps")
OBJECTIVE = {"metric", "direction", "also"}
LARGEST = 1e30
"""No cost or value of a parameter is larger; a surface over such could not be computed."""
CONFIRMATION = "it confirms another study"
NO_TRIAL = "it has no complete trial of full length that meets its constraints"

Point = dict[str, Any]
Trials = Sequence[tuple[Point, float]]
"""Points and what they cost, lower is better."""


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
    has_same_constraints: bool = True
    trials: frozenset[tuple[float | None, ...]] = frozenset()
    """The complete ones of full length that meet the constraints: values of the parameters, and the cost."""

    def distance(self, size: int, tokens: int) -> float:
        """How far from a study of this size and length, in logarithms."""
        return abs(math.log(size / self.size)) + abs(math.log(tokens / self.tokens)) + (0.0 if self.has_same_data else OTHER_DATA)

    def is_fitted(self, key: str) -> bool:
        """Whether the optimum is that of a surface, rather than the best single trial."""
        return self.shape is not None and key in self.shape.keys and not self.shape.surface.at_end[self.shape.keys.index(key)]

    def is_same_study(self, other: Earlier) -> bool:
        """By their trials: names are given twice, and a study goes on after it was exported."""
        return self.size == other.size and 2 * len(self.trials & other.trials) > min(len(self.trials), len(other.trials))


@dataclass
class _Kind:
    name: str | None = None


@dataclass
class _Data:
    sources: dict[str, dict[str, Any]] | None = None


@dataclass(kw_only=True)
class _Trained:
    """What is read of the configuration of a trial."""

    objective: _Kind = field(default_factory=_Kind)
    optim: _Kind = field(default_factory=_Kind)
    adapter: _Kind = field(default_factory=_Kind)
    data: _Data
    model: dict[str, Any]


@dataclass
class _Base:
    trainer: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Metric:
    metric: str


@dataclass
class _Objective(_Metric):
    also: list[_Metric] = field(default_factory=list)


@dataclass
class _Sweep:
    """What is read of sweep.yaml, as far as `StudyRecord` does not check it."""

    objective: _Objective
    config: _Base = field(default_factory=_Base)


@dataclass(frozen=True)
class _Asked:
    """What earlier studies have to agree with."""

    config: SweepConfig
    parameters: Sequence[Parameter]
    base: Config

    def differs(self, metric: str | None, direction: str, trained: _Trained | Config) -> str | None:
        """Why a study of this objective does not compare; None where it does."""
        objective = self.config.objective
        if (metric, direction) != (objective.metric, objective.direction):
            return f"it looks for {metric} ({direction}), this sweep for {objective.metric} ({objective.direction})"
        for section in SAME_KIND:
            own, other = getattr(self.base, section).name, getattr(trained, section).name
            if own != other and not {section, f"{section}.name"} & self.config.space.keys():
                return f"it trained with {section}.name={other}, this sweep has {own}"
        return None

    def has_constraints(self, constraints: Mapping[str, Mapping[str, float]]) -> bool:
        return _limits(constraints) == _limits(to_plain(self.config)["constraints"])

    def seen(self, trials: Trials) -> frozenset[tuple[float | None, ...]]:
        keys = [parameter.key for parameter in self.parameters]
        return frozenset(
            (*(float(value) if _is_positive(value := point.get(key)) else None for key in keys), cost) for point, cost in trials
        )


def earlier_studies(config: SweepConfig, parameters: Sequence[Parameter], base: Config, name: str) -> tuple[list[Earlier], dict[str, str]]:
    """The comparable studies and recipes among those that are named in search.scaling_studies, else among all at hand; each study once.
    And by name those that are left out, and why.

    Raises InputError for named ones that cannot be read.
    """
    named, asked = config.search.scaling_studies, _Asked(config, parameters, base)
    at_hand: list[StudyDirectory | BundleDirectory] = (
        [bundle_of(one, NAMED) if one.startswith(f"{FOLDER}/") else find_study(one) for one in named]
        if named
        else [*_studies(name), *(bundle for _, bundle in bundles())]
    )
    found, left_out = list[Earlier](), dict[str, str]()
    for directory in {one.path.resolve(): one for one in at_hand}.values():
        is_recipe = isinstance(directory, BundleDirectory)
        word = f"{FOLDER}/{directory.path.name}" if is_recipe else directory.path.name
        try:
            one = _of_recipe(word, directory, asked) if isinstance(directory, BundleDirectory) else _of_study(directory, asked)
        except (InputError, OSError) as error:
            if named:
                raise InputError(f"{NAMED}: {word} cannot be read: {error}") from None
            one = "it cannot be read"  # another one's damage, which its own commands tell of
        if isinstance(one, Earlier):
            found.append(one)
        elif named or one != CONFIRMATION:
            left_out[word] = one
    kept = list[Earlier]()
    for study in sorted(found, key=lambda one: (one.name.startswith(f"{FOLDER}/"), -len(one.trials), one.name)):
        twin = next((other for other in kept if study.is_same_study(other)), None)
        if twin is None:
            kept.append(study)
        elif named:
            left_out[study.name] = f"it has the trials of {twin.name}, which count once"
    return kept, left_out


def _studies(but: str) -> Iterator[StudyDirectory]:
    root = runs_root()
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        study = StudyDirectory(path)
        if path.name != but and study.sweep.is_file():
            yield study


def _of_study(directory: StudyDirectory, asked: _Asked) -> Earlier | str:
    """Why not, where it does not compare."""
    study = load_study(directory)
    typed(_Sweep, study.sweep, directory.sweep)
    given = study.sweep["objective"]
    if foreign := {str(key) for one in (given, *given.get("also", [])) for key in one} - OBJECTIVE:
        raise DamagedError(directory.sweep, f"objective.{min(foreign)}: unknown; valid: {', '.join(sorted(OBJECTIVE))}")
    if study.confirms is not None:
        return CONFIRMATION
    objective, best = study.objective, study.best
    if best is None or not study.has_full_length(best):
        differs = asked.differs(objective.metric, objective.direction, asked.base)
        return differs or NO_TRIAL
    trained = typed(_Trained, best.config, best.directory.config)
    if differs := asked.differs(objective.metric, objective.direction, trained):
        return differs
    if best.result.tokens.read or best.result.tokens.length <= 0:
        return "its trials train nothing"
    trials = [
        (run.params, objective.sign * run.result.objective)
        for run in study.ranked
        if study.has_full_length(run) and run.result.objective is not None and abs(run.result.objective) < LARGEST
    ]
    began_in = best.result.directory
    return Earlier(
        study.name,
        model_size(to_section(ModelConfig, trained.model)),
        best.result.tokens.length,
        _names(trained.data.sources, lambda path: _whole(path, began_in)) == _names(_sources(asked.base), lambda path: _whole(path, None)),
        best.params,
        *optima_of(asked.parameters, study.sweep.get("space") or {}, best.params, trials),
        asked.has_constraints(study.constraints),
        asked.seen(trials),
    )


def _of_recipe(word: str, directory: BundleDirectory, asked: _Asked) -> Earlier | str:
    """Why not, where it does not compare."""
    recipe = directory.read()
    trained = typed(_Trained, read_mapping(directory.config, holds="the resolved configuration of a recipe"), directory.config)
    if recipe.study is None:
        return "it is of a single run"
    if differs := asked.differs(recipe.metric, recipe.direction, trained):
        return differs
    rows = _rows(recipe, read_trials(directory.trials))
    if not rows:
        return NO_TRIAL
    best, tokens = recipe.params, recipe.tokens.length
    if rows[0].get("number") != recipe.trial:  # the recipe of another trial than its study's best
        best, tokens = _point(rows[0]), _length(rows[0]) or tokens
    if recipe.tokens.read or tokens <= 0:
        return "its trials train nothing"
    size = recipe.model.get("size")
    if size is None or size <= 0:
        return "the size of its model is not known"
    sign = -1 if recipe.direction == "maximize" else 1
    trials = [(_point(row), sign * float(row["objective"])) for row in rows]
    return Earlier(
        word,
        size,
        tokens,
        _names(trained.data.sources, _last_part) == _names(_sources(asked.base), _last_part),
        best,
        *optima_of(asked.parameters, recipe.space, best, trials),
        asked.has_constraints(recipe.constraints),
        asked.seen(trials),
    )


def _rows(recipe: Bundle, rows: Sequence[Row]) -> list[Row]:
    """The complete trials of full length that meet the constraints, as a study ranks them: the confirmed winner and then the best first."""
    sign = -1 if recipe.direction == "maximize" else 1
    complete = [row for row in rows if row.get("role") == "search" and row.get("state") == "complete" and _is_number(row.get("objective"))]
    for key in LENGTHS:
        if key not in recipe.space:  # a trunk search gives it to its shorter runs
            longest = max((length for row in complete if _is_number(length := row.get(f"{PARAMS}{key}"))), default=None)
            complete = [row for row in complete if longest is None or row.get(f"{PARAMS}{key}") == longest]

    def is_confirmed(row: Row) -> bool:
        return recipe.confirmed and row.get("number") == recipe.trial

    def is_feasible(row: Row) -> bool:
        return not broken(recipe.constraints, recipe.metrics_over_seeds) if is_confirmed(row) else row.get("feasible") is not False

    return sorted(filter(is_feasible, complete), key=lambda row: (not is_confirmed(row), sign * row["objective"]))


def _point(row: Row) -> Point:
    return {
        key.removeprefix(PARAMS): value
        for key, value in row.items()
        if key.startswith(PARAMS) and value is not None and (_is_number(value) or not isinstance(value, float))
    }


def _length(row: Row) -> int:
    """0 where the table does not say."""
    parts = [row.get(f"tokens.{part}") for part in ("budgeted", "shared")]
    return int(sum(part for part in parts if _is_number(part)))


def _limits(constraints: Mapping[str, Mapping[str, float | None]]) -> dict[str, dict[str, float | None]]:
    """Metrics and what they may be; how sure that has to be moves no optimum far."""
    return {metric: {side: bound[side] for side in ("max", "min") if bound.get(side) is not None} for metric, bound in constraints.items()}


def _sources(base: Config) -> dict[str, dict[str, Any]]:
    sources: dict[str, dict[str, Any]] = to_plain(base)["data"]["sources"]
    return sources


def _names(sources: Mapping[str, Mapping[str, Any]] | None, named: Callable[[str], str]) -> dict[str, Any]:
    """What tells data apart: every key of the sources, with its paths as `named` has them."""
    whole = {name: {**DEFAULTS, **source} for name, source in (sources or {}).items()}
    return dict(flat(with_paths({"data": {"sources": whole}}, lambda _, path: named(path))))


def _whole(path: str, directory: str | None) -> str:
    """The file that a path means. directory: where relative ones begin; None: here."""
    if is_remote(path) or is_made(path):
        return path
    return os.path.realpath(Path(directory or "") / in_home(path))  # unlike pathlib's it does not raise for links in a circle


def _last_part(path: str) -> str:
    """What a recipe has of a path (see `harness.config.private`), without the number that tells namesakes apart."""
    return re.sub(r"^\d+-", "", path.rstrip("/").rpartition("/")[2])


def optima_of(parameters: Sequence[Parameter], space: dict[str, Any], best: Point, trials: Trials) -> tuple[dict[str, float], Shape | None]:
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
    choices = spec.get("choices")
    ends = [spec.get("low"), spec.get("high")] if "low" in spec else choices if isinstance(choices, list) else []
    numbers = [float(end) for end in ends if _is_positive(end)]
    return (min(numbers), max(numbers)) if len(numbers) == len(ends) > 1 else None


def _is_number(value: Any) -> TypeGuard[float]:
    """As far as a surface can be fitted over it: neither infinite nor NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST < value < LARGEST


def _is_positive(value: Any) -> TypeGuard[float]:
    return _is_number(value) and value > 0
