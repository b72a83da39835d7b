"""Points and priors from recipes: the point that each found best, and the range of its best trials.

A prior is a mean and a spread by parameter (see `search.prior`): of the best quarter of a recipe's trials, pooled over the recipes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from harness.config.errors import InputError
from harness.config.user_yaml import read_mapping
from harness.runs.bundle import Bundle, BundleDirectory, named_bundle
from harness.runs.trials_table import PARAMS, numbers_of, read_trials
from harness.search.parameter import Parameter
from harness.search.space import Space

BEST_SHARE = 0.25
LEAST_TRIALS = 3
"""Fewer say nothing about the spread of the good ones."""
LEAST_SPREAD = {True: 1.5, False: 0.1}
"""On a log scale a factor, else a share of the range: neighbouring values differ by less than seed noise."""
UNKNOWN_SPREAD = {True: 3.0, False: 0.25}
"""Where a recipe has too few trials."""


def point_of(bundle: BundleDirectory, space: Space) -> dict[str, Any]:
    """The recipe's values of the parameters of another space; None where it has none. Raises InputError for a damaged bundle."""
    recipe = bundle.read()
    values = read_mapping(bundle.config, holds="the resolved configuration of a recipe")
    return space.values_of(recipe.groups, values)


def prior_of(names: Sequence[str], space: Space) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Mean and spread by parameter from the recipes best/NAME, of those ranges that their searches had, too; and what was found, in words.

    Experiments without a bundle say nothing of it. Raises InputError for a damaged bundle.
    """
    found = [(name, bundle, bundle.read()) for name in names if (bundle := named_bundle(name)) is not None]
    tables = [(name, recipe, read_trials(bundle.trials)) for name, bundle, recipe in found if recipe.study is not None]
    prior: dict[str, dict[str, float]] = {}
    notes = []
    for parameter in space.parameters:
        seen = [(name, one) for name, recipe, rows in tables if (one := _seen(recipe, rows, parameter)) is not None]
        if seen:
            mean, spread = _pooled([one for _, one in seen])
            mean, spread = (math.exp(mean), math.exp(spread)) if parameter.log else (mean, spread)
            prior[parameter.key] = {"mean": float(parameter.nearest(mean)), "spread": spread}
            factor = f"a factor of {spread:.2g}" if parameter.log else f"{spread:.2g}"
            notes.append(f"prior of {parameter.key}: {mean:.3g}, spread {factor}, from {', '.join(name for name, _ in seen)}")
    return prior, notes


def _seen(recipe: Bundle, rows: list[dict[str, Any]], parameter: Parameter) -> tuple[float, float] | None:
    """Mean and spread of a recipe's best trials, on a log scale their logarithms; None where the parameter is no range of its search."""
    if parameter.choices or "low" not in recipe.space.get(parameter.key, {}) or parameter.low is None or parameter.high is None:
        return None
    searched = [row for row in rows if row.get("role") == "search" and row.get("state") == "complete" and row.get("feasible") is not False]
    values, objectives = numbers_of(searched, f"{PARAMS}{parameter.key}"), numbers_of(searched, "objective")
    sign = -1 if recipe.direction == "maximize" else 1
    pairs = zip(values, objectives, strict=True)
    placed = sorted((sign * objective, value) for value, objective in pairs if value is not None and objective is not None)
    best = [value for _, value in placed[: max(LEAST_TRIALS, math.ceil(BEST_SHARE * len(placed)))] if not parameter.log or value > 0]
    if not best:
        return None
    scaled = [math.log(value) if parameter.log else value for value in best]
    unit = 1.0 if parameter.log else float(parameter.high - parameter.low)
    # The chosen value may be that of a confirmation: it is where the search should look first.
    chosen = recipe.params.get(parameter.key)
    is_number = isinstance(chosen, int | float) and (not parameter.log or chosen > 0)
    mean = (math.log(chosen) if parameter.log else float(chosen)) if is_number and chosen is not None else statistics.fmean(scaled)
    least, unknown = (math.log(part[True]) if parameter.log else part[False] * unit for part in (LEAST_SPREAD, UNKNOWN_SPREAD))
    enough = len(placed) > LEAST_TRIALS
    return mean, max(least, math.sqrt(statistics.fmean((value - mean) ** 2 for value in scaled))) if enough else unknown


def _pooled(seen: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Mean and spread of an equal mixture of normal distributions."""
    mean = statistics.fmean(mean for mean, _ in seen)
    return mean, math.sqrt(statistics.fmean(spread**2 + (one - mean) ** 2 for one, spread in seen))


def bundle_of(name: str, where: str) -> BundleDirectory:
    """The recipe best/NAME. Raises InputError, naming the key `where`, when there is none."""
    bundle = named_bundle(name)
    if bundle is None:
        raise InputError(f"{where}: {name} has no bundle; `harness recipes` lists those that exist")
    return bundle
