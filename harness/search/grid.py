"""Every combination of a space: what `search=grid` proposes, once each."""

from __future__ import annotations

import math
import random
from typing import Any

from harness.config.errors import InputError
from harness.search.parameter import Parameter
from harness.search.samplers import derived_seed
from harness.search.space import Space

MOST_POINTS = 100_000
"""Nobody trains more; listing them would take long before anybody noticed."""


def grid_points(space: Space, *, values_per_range: int, seed: int) -> list[dict[str, Any]]:
    """All points, in an order shuffled by `seed`, so that a budget that ends early leaves an even subset.

    Conditional parameters take part where they are active; ranges with a step give all their values, others `values_per_range`, evenly
    spaced (on a log scale where they have one). Raises InputError for a grid of more than 100,000 points.
    """
    refuse_large_grid(space, values_per_range=values_per_range)
    points: list[dict[str, Any]] = [{}]
    for parameter in space.parameters:
        values = _values(parameter, values_per_range)
        points = [
            {**point, parameter.key: value} if parameter.is_active(point) else point
            for point in points
            for value in (values if parameter.is_active(point) else values[:1])
        ]
        _refuse_more(len(points))
    random.Random(derived_seed(seed, "grid")).shuffle(points)
    return points


def refuse_large_grid(space: Space, *, values_per_range: int) -> None:
    """Raise InputError where the parameters that always take part make more than 100,000 points, before any is listed."""
    _refuse_more(math.prod(_count(parameter, values_per_range) for parameter in space.parameters if not parameter.when))


def _refuse_more(points: int) -> None:
    if points > MOST_POINTS:
        raise InputError(f"search.name=grid: the grid has more than {MOST_POINTS:,} points; fewer values, or another sampler: qmc, tpe")


def _step(parameter: Parameter, count: int) -> float | None:
    """Between the values of a range; None where they are `count` evenly spaced ones."""
    low, high = parameter.bounds
    return parameter.step or (1 if parameter.is_integer and high - low < count else None)


def _count(parameter: Parameter, count: int) -> int:
    if parameter.choices:
        return len(parameter.choices)
    low, high = parameter.bounds
    step = _step(parameter, count)
    return count if step is None else round((high - low) / step) + 1


def _values(parameter: Parameter, count: int) -> list[Any]:
    if parameter.choices:
        return list(parameter.choices)
    low, high = parameter.bounds
    step = _step(parameter, count)
    if step is not None:
        return [parameter.nearest(low + n * step) for n in range(_count(parameter, count))]
    shares = [n / (count - 1) for n in range(count)]
    inner = [parameter.at(share) for share in shares]
    # By way of logarithms the ends would be off by a rounding error.
    return list(dict.fromkeys(parameter.nearest(value) for value in [low, *inner[1:-1], high] if math.isfinite(value)))
