"""A quadratic surface of what trials cost, fitted to a study's better trials: where a parameter has its optimum, rather than at the
luckiest trial; and where the trials of a new study move the optimum that an earlier surface let expect."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Float64 = NDArray[np.float64]

OTHER_CURVATURE = 0.5
"""How far the curvature of a new study may be expected to differ from that of earlier ones, as a share of it."""
LEAST_NOISE = 1e-4
"""Of a trial, in what it costs: no surface is exactly quadratic."""


@dataclass(frozen=True)
class Surface:
    """A quadratic one with a lowest point."""

    lowest: list[float]
    """[parameters]; among the points that it was fitted to."""
    curvature: list[list[float]]
    """Second derivatives: [parameters, parameters]."""
    noise: float
    """The standard deviation of trials, without what a cubic explains: that is shape."""
    at_end: list[bool]
    """By parameter, whether it falls on beyond these points."""


def fitted_surface(points: Sequence[Sequence[float]], costs: Sequence[float]) -> Surface | None:
    """By weighted least squares from the best of the points: at most half of them, or one more than a cubic has terms.

    The better a point, the more it weighs. None where these are too few, or the surface has no lowest point at all.
    points: [points, parameters].
    """
    import numpy as np

    at, cost = np.array(points, dtype=float), np.array(costs, dtype=float)
    dimensions = at.shape[1] if at.ndim == 2 else 0
    terms = (dimensions + 1) * (dimensions + 2) // 2
    if len(cost) <= terms:
        return None
    enough_for_a_cubic = terms + dimensions + 1
    kept = np.argsort(cost, kind="stable")[: max(enough_for_a_cubic, min(math.ceil(len(cost) / 2), 3 * terms))]
    at, cost = at[kept], cost[kept]
    centre, scale = at.mean(axis=0), at.std(axis=0)
    if not (scale > 0).all():
        return None
    x, excess = (at - centre) / scale, cost - cost.min()
    root_weights = 1 / (1 + excess / max(float(np.median(excess)), 1e-12)) ** 2
    design = _design(x) * root_weights[:, None]
    if np.linalg.matrix_rank(design) < terms:
        return None
    coefficients, *_ = np.linalg.lstsq(design, excess * root_weights, rcond=None)
    curvature = _curvature(coefficients, dimensions)
    if np.linalg.eigvalsh(curvature).min() <= 1e-9:
        return None
    lowest, at_end = _lowest_within(curvature, coefficients[1 : 1 + dimensions], x.min(axis=0), x.max(axis=0))
    noise = _noise(design, x**3 * root_weights[:, None], excess * root_weights, root_weights)
    return Surface((centre + scale * lowest).tolist(), (curvature / np.outer(scale, scale)).tolist(), noise, at_end.tolist())


def _noise(quadratic: Float64, cubes: Float64, costs: Float64, root_weights: Float64) -> float:
    """Of trials around a cubic, or around a quadratic where they are too few for that. All are weighted: [points, terms], [points]."""
    import numpy as np

    design = np.column_stack([quadratic, cubes])
    if np.linalg.matrix_rank(design) == len(design):
        design = quadratic
    coefficients, _, rank, _ = np.linalg.lstsq(design, costs, rcond=None)
    missed = float(((design @ coefficients - costs) ** 2).sum() / (root_weights**2).sum())
    return math.sqrt(missed * len(costs) / (len(costs) - int(rank)))


def moved_optimum(
    expected: Surface, errors: Sequence[float], points: Sequence[Sequence[float]], costs: Sequence[float]
) -> list[float] | None:
    """The lowest point of a surface that is expected to be like another one, given trials of its own; None where it has none.

    The mean of a Bayesian linear regression on the quadratic's terms. errors: the standard deviation with which the lowest point is known,
    by parameter; points: [points, parameters], at least one.
    """
    import numpy as np

    curvature, lowest = np.array(expected.curvature), np.array(expected.lowest)
    x, excess = np.array(points, dtype=float) - lowest, np.array(costs, dtype=float) - min(costs)
    dimensions = len(lowest)
    second = [curvature[i, j] for i, j in _products(dimensions)]
    widths = [OTHER_CURVATURE * math.sqrt(curvature[i, i] * curvature[j, j]) for i, j in _products(dimensions)]
    # A lowest point elsewhere is a slope where it was expected. The level is not known.
    slope = curvature * np.array(errors)
    precision = np.zeros((1 + dimensions + len(second),) * 2)
    precision[1 : 1 + dimensions, 1 : 1 + dimensions] = np.linalg.inv(slope @ slope.T)
    precision[1 + dimensions :, 1 + dimensions :] = np.diag(1 / np.square(widths))
    mean = np.array([0.0] * (1 + dimensions) + second)
    design, variance = _design(x), max(expected.noise, LEAST_NOISE) ** 2
    coefficients = np.linalg.solve(precision + design.T @ design / variance, precision @ mean + design.T @ excess / variance)
    own = _curvature(coefficients, dimensions)
    if np.linalg.eigvalsh(own).min() <= 0:
        return None
    found: list[float] = (lowest - np.linalg.solve(own, coefficients[1 : 1 + dimensions])).tolist()
    return found


def _lowest_within(curvature: Float64, slope: Float64, low: Float64, high: Float64) -> tuple[Float64, NDArray[np.bool_]]:
    """Where a quadratic is lowest between ends, and which parameters are at one: given these, the others are where it is lowest."""
    import numpy as np

    lowest, at_end = np.zeros(len(slope)), np.zeros(len(slope), dtype=bool)
    while not at_end.all():
        free = ~at_end
        lowest[free] = -np.linalg.solve(curvature[np.ix_(free, free)], slope[free] + curvature[np.ix_(free, at_end)] @ lowest[at_end])
        outside = free & ((lowest < low) | (lowest > high))
        if not outside.any():
            break
        lowest, at_end = np.where(outside, np.clip(lowest, low, high), lowest), at_end | outside
    return lowest, at_end


def _products(dimensions: int) -> list[tuple[int, int]]:
    return list(itertools.combinations_with_replacement(range(dimensions), 2))


def _design(x: Float64) -> Float64:
    """The terms of a quadratic, so that its coefficients are its level, slopes and second derivatives: [points, terms]."""
    import numpy as np

    products = [x[:, i] * x[:, j] / (2 if i == j else 1) for i, j in _products(x.shape[1])]
    return np.column_stack([np.ones(len(x)), x, *products])


def _curvature(coefficients: Float64, dimensions: int) -> Float64:
    import numpy as np

    curvature = np.zeros((dimensions, dimensions))
    for (i, j), coefficient in zip(_products(dimensions), coefficients[1 + dimensions :], strict=True):
        curvature[i, j] = curvature[j, i] = coefficient
    return curvature
