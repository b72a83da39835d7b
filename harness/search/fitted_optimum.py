"""Where a parameter has its optimum, by a quadratic surface fitted to a study's better trials rather than by its luckiest one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
