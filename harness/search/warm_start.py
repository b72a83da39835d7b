"""Where a search begins: points to try first, and a prior, both resolved at launch and frozen with the sweep."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.config.errors import InputError, unknown, wrong_value
from harness.config.load import load
from harness.config.merge_baselines import baseline_points
from harness.config.nested import lookup
from harness.config.schema import Config
from harness.config.sweep_schema import SearchConfig, SweepConfig
from harness.config.validate import to_plain
from harness.runs.bundle import named_bundle
from harness.runs.directory import find_study
from harness.runs.record import load_study
from harness.search.bundle_prior import point_of, prior_of
from harness.search.earlier import start_from_earlier
from harness.search.parameter import Parameter
from harness.search.samplers import derived_seed
from harness.search.scaling import fit_scaling, scaled_prior, scaling_text
from harness.search.space import Space
from harness.search.steering_controls import BASELINES, first_controls

DRAWS = 1000
"""After so many draws outside the range, its nearest end is taken: nearly all of the prior lies outside."""


@dataclass(frozen=True)
class Start:
    """What was resolved at launch."""

    points: list[dict[str, Any]] = field(default_factory=list)
    """Values by configuration key, possibly of some parameters only; tried first, in this order."""
    prior: dict[str, dict[str, float]] = field(default_factory=dict)
    """Mean and spread by configuration key."""
    scaling: dict[str, Any] | None = None
    """The power law that the prior was taken from (see `harness.search.scaling`)."""
    notes: list[str] = field(default_factory=list)
    """What was changed to fit the space, in words."""
    around: dict[str, Any] | None = None
    """What earlier studies let expect around the prior's means (see `harness.search.around_earlier`)."""

    def lines(self) -> list[str]:
        """Notes for whoever launches the study."""
        return [*self.notes, *([scaling_text(self.scaling)] if self.scaling else [])]

    def pinned(self, config: SearchConfig, space: Space, number: int, *, ended: int) -> dict[str, Any]:
        """The values that trial `number` is given, as Optuna's record has them; empty where the sampler has a free hand.

        ended: how many trials have ended well enough to learn from; until startup_trials have, the prior stands in for what is not known.
        """
        if number < len(self.points):
            return space.in_optuna(self.points[number])
        if self.prior and ended < config.startup_trials:
            return {key: draw(space[key], prior, derived_seed(config.seed, number, key)) for key, prior in self.prior.items()}
        return {}


def draw(parameter: Parameter, prior: dict[str, float], seed: int) -> float | int:
    """A value from the prior as Optuna's record has it, truncated to the parameter's range and set on its grid."""
    # Of ordered choices their places.
    low, high = (0.0, len(parameter.choices) - 1.0) if parameter.ordered else parameter.bounds
    nearest = round if parameter.ordered else parameter.nearest
    generator = random.Random(seed)
    for _ in range(DRAWS):
        deviate = generator.gauss(0.0, 1.0)
        value = prior["mean"] * prior["spread"] ** deviate if parameter.log else prior["mean"] + prior["spread"] * deviate
        if low <= value <= high:
            return nearest(value)
    return nearest(prior["mean"])


def resolve_start(config: SweepConfig, space: Space, base: Config, tokens: int, *, name: str = "") -> Start:
    """Resolve warm starts and prior. base: the configuration of every trial; tokens: of this sweep's runs, for the power law; name: of the
    study.

    Raises InputError for points outside the space, studies that do not exist, and priors that cannot be drawn from.
    """
    points, notes = resolve_points(config.search, space, base)
    search = config.search
    if search.prior == "scaling":
        law = fit_scaling(search.scaling_studies, objective=config.objective.metric)
        prior, scaling = scaled_prior(law, space, base.model, tokens)
        return Start(points, prior, scaling, notes)
    if search.prior == "earlier" and search.name != "grid":
        first, prior, around, said = start_from_earlier(config, space, base, tokens, name=name)
        points += [point for point in first if point not in points]
        return Start(points, prior, None, [*notes, *said], asdict(around) if around else None)
    if search.scaling_studies:
        raise InputError("search.scaling_studies: not read without search.prior=scaling or search.prior=earlier")
    if search.prior in ("none", "earlier") or search.name == "grid":
        return Start(points, {}, None, notes)
    assert isinstance(search.prior, dict)
    given = check_prior(search.prior, space)
    recipes = [entry for entry in entries_of(search) if isinstance(entry, str) and entry.startswith("best/")]
    found, said = prior_of(recipes, space)
    notes += [note for key, note in zip(found, said, strict=True) if key not in given]
    return Start(points, {**found, **given}, None, notes)


def entries_of(config: SearchConfig) -> list[Any]:
    """The entries of search.warm_start, which may be a single one."""
    return config.warm_start if isinstance(config.warm_start, list) else [config.warm_start]


def resolve_points(config: SearchConfig, space: Space, base: Config | None = None) -> tuple[list[dict[str, Any]], list[str]]:
    """The points of `search.warm_start`, and notes on what was moved into the space. base: the configuration of every trial.

    (Needed for baselines alone.) Raises InputError for what cannot be one.
    """
    points: list[dict[str, Any]] = []
    notes: list[str] = []
    for index, entry in enumerate(entries_of(config)):
        where = f"search.warm_start[{index}]"
        if isinstance(entry, dict):
            points.append(_given(space, {str(key): value for key, value in entry.items()}, where))
        elif entry == BASELINES:
            points += _baselines(space, base, where, notes)
        elif isinstance(entry, str) and entry.startswith("study:"):
            points += [_moved(space, values, f"{where}: {entry}", notes) for values in _best_of(entry, where)]
        elif isinstance(entry, str) and entry.startswith("best/"):
            points.append(_moved(space, _of_experiment(space, entry), f"{where}: {entry}", notes))
        else:
            raise wrong_value(where, entry, "expected a point {KEY: VALUE}, study:NAME, study:NAME:K, best/NAME or baselines")
    # Two sources may have found the same point.
    return [point for index, point in enumerate(points) if point and point not in points[:index]], notes


def _baselines(space: Space, base: Config | None, where: str, notes: list[str]) -> Iterator[dict[str, Any]]:
    """What a merge, or steering, has to beat, as far as the space has it."""
    if base is not None and base.adapter.name == "steering":
        yield from first_controls(space, where)
        return
    if base is None or base.model.merge.method is None:
        problem = "these are of merges and of steering; valid: model=merge, adapter=steering, or other points"
        raise wrong_value(where, BASELINES, problem)
    searched = {parameter.key: parameter for parameter in space.parameters}
    fixed = to_plain(base)
    for label, values in baseline_points(base.model.merge, searched).items():
        outside = [
            f"{key}={value}"
            for key, value in values.items()
            if not (searched[key].holds(value) if key in searched else value == lookup(fixed, key))
        ]
        point = {key: value for key, value in values.items() if key in searched}
        if "trainer.max_steps" in searched and searched["trainer.max_steps"].holds(0):
            point["trainer.max_steps"] = 0
        inactive = [key for key in point if any(point.get(other) not in allowed for other, allowed in searched[key].when.items())]
        if outside:
            notes.append(f"{where}: baselines: {label} is left out, the space has no {', '.join(outside)}")
        else:
            yield {key: value for key, value in point.items() if key not in inactive}


def _given(space: Space, point: dict[str, Any], where: str) -> dict[str, Any]:
    keys = [parameter.key for parameter in space.parameters]
    for key, value in point.items():
        if key not in keys:
            raise unknown("parameter", key, keys, where=where)
        if not space[key].holds(value):
            raise wrong_value(f"{where}.{key}", value, f"outside the space; valid: {space[key].domain}")
        for other, allowed in space[key].when.items():
            if other in point and point[other] not in allowed:
                raise wrong_value(
                    f"{where}.{key}", value, f"takes no part with {other}={point[other]}, only with {', '.join(map(str, allowed))}"
                )
    return {key: value if space[key].choices else space[key].nearest(value) for key, value in point.items()}


def _moved(space: Space, values: dict[str, Any], where: str, notes: list[str]) -> dict[str, Any]:
    """A point of another space, moved into this one."""
    point: dict[str, Any] = {}
    for parameter in space.parameters:
        value = values.get(parameter.key)
        if parameter.key not in values or any(key in point and point[key] not in allowed for key, allowed in parameter.when.items()):
            continue
        if parameter.choices or isinstance(value, bool) or not isinstance(value, int | float):
            if parameter.holds(value):
                point[parameter.key] = value
            else:
                notes.append(f"{where}: {parameter.key}={value} is left to the sampler, it is not {parameter.domain}")
            continue
        point[parameter.key] = parameter.nearest(value)
        if not parameter.holds(value):
            notes.append(f"{where}: {parameter.key}={value} was moved to {point[parameter.key]}, the space goes {parameter.domain}")
    return point


def _best_of(entry: str, where: str) -> Iterator[dict[str, Any]]:
    _, name, *rest = entry.split(":")
    count = rest[0] if rest else "1"
    if len(rest) > 1 or not count.isdigit() or count == "0":
        raise wrong_value(where, entry, "expected study:NAME or study:NAME:K with K >= 1")
    ranked = load_study(find_study(name)).ranked
    if not ranked:
        raise wrong_value(where, entry, "that study has no complete trial within its constraints")
    for run in ranked[: int(count)]:
        yield run.params


def _of_experiment(space: Space, entry: str) -> dict[str, Any]:
    bundle = named_bundle(entry)
    if bundle is not None:
        # Its experiment may not compose here, where files lie elsewhere; its values are the same.
        return point_of(bundle, space)
    loaded = load([f"experiment={entry}"])
    return space.values_of(loaded.composed.groups, to_plain(loaded.config))


def check_prior(prior: dict[str, Any], space: Space) -> dict[str, dict[str, float]]:
    """`search.prior` as numbers, of ordered choices places among them. Raises InputError for keys that have no order in the space, and for
    impossible means and spreads."""
    keys = [parameter.key for parameter in space.parameters]
    checked = {}
    for key, given in prior.items():
        where = f"search.prior.{key}"
        if key not in keys:
            raise unknown("parameter", key, keys, where="search.prior")
        parameter = space[key]
        if parameter.choices and not parameter.ordered:
            raise InputError(
                f"{where}: {key} has choices; a prior is of a range, or of choices that are ordered: true (or give warm_start)"
            )
        if not isinstance(given, dict) or set(given) != {"mean", "spread"}:
            raise wrong_value(where, given, "expected {mean: …, spread: …}")
        if parameter.ordered:
            if given["mean"] not in parameter.choices:
                raise wrong_value(f"{where}.mean", given["mean"], f"outside the space; valid: {parameter.domain}")
            given = {**given, "mean": parameter.choices.index(given["mean"])}
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise wrong_value(f"{where}.{name}", value, "expected a number")
        if not parameter.ordered and not parameter.low <= given["mean"] <= parameter.high:
            raise wrong_value(f"{where}.mean", given["mean"], f"outside the space; valid: {parameter.domain}")
        least, unit = (1, ", a factor on this log scale") if parameter.log else (0, ", in choices" if parameter.ordered else "")
        if given["spread"] <= least:
            raise wrong_value(f"{where}.spread", given["spread"], f"must be > {least}{unit}")
        checked[key] = {name: float(value) for name, value in given.items()}
    return checked
