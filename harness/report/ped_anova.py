"""PED-ANOVA (Watanabe et al., IJCAI 2023) in numpy: importances by what sets the best tenth of trials apart.

The same numbers as Optuna's own evaluator for parameters that every trial has. Importing that one loads scikit-learn, scipy and pandas:
seconds, where a table of a thousand trials is promised in one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

TOP_SHARE = 0.1
"""The trials that count as the best."""
GRID = 50
"""Grid points of a continuous parameter's density."""


@dataclass(frozen=True)
class Observed:
    """A parameter's value in every trial: places 0 … `places` - 1 on a grid, or the indices of choices."""

    places: int
    at: Sequence[int]
    is_choice: bool


def on_grid(values: Sequence[float], low: float, high: float) -> Observed:
    """A continuous parameter, on the scale on which it was searched."""
    step = (high - low) / (GRID - 1) or 1.0
    return Observed(GRID, [min(GRID - 1, max(0, math.ceil((value - low) / step - 0.5))) for value in values], is_choice=False)


def weights(observed: Mapping[str, Observed], costs: Sequence[float]) -> dict[str, float]:
    """`weight` of each parameter."""
    return {key: weight(one, costs) for key, one in observed.items()}


def weight(observed: Observed, costs: Sequence[float]) -> float:
    """The Pearson divergence of the density over the best tenth from that over all trials; 0 where all are alike. Lower costs
    are better."""
    import numpy as np

    cutoff = sorted(costs)[math.ceil(TOP_SHARE * len(costs)) - 1]
    best = [place for place, cost in zip(observed.at, costs, strict=True) if cost <= cutoff]
    of_best, of_all = _density(observed, best) + 1e-12, _density(observed, observed.at) + 1e-12
    return float(of_all @ np.square(of_best / of_all - 1))


def _density(observed: Observed, at: Sequence[int]) -> Floats:
    """A Parzen estimate over the places, of float64, [places], with one observation's weight on a flat prior."""
    import numpy as np

    counts = np.bincount(np.asarray(at, dtype=np.int64), minlength=observed.places)
    seen = np.flatnonzero(counts)
    shares = np.append(counts[seen], 1.0) / (counts[seen].sum() + 1.0)
    kernels = _choices(seen, observed.places) if observed.is_choice else _normals(seen, counts[seen], observed.places)
    density: Floats = shares @ kernels
    return density


def _choices(seen: NDArray[np.int64], places: int) -> Floats:
    import numpy as np

    kernels = np.full((len(seen) + 1, places), 1.0 / (len(seen) + 1))
    kernels[np.arange(len(seen)), seen] += 1.0
    normalized: Floats = kernels / kernels.sum(axis=1, keepdims=True)
    return normalized


def _normals(seen: NDArray[np.int64], counts: NDArray[np.int64], places: int) -> Floats:
    """Normals of a bandwidth by Scott's rule, integrated over the cells of the grid and cut off at its ends."""
    import numpy as np

    total, below = counts.sum(), np.cumsum(counts)
    mean = (seen @ counts) / total
    sd = math.sqrt(((seen - mean) ** 2 @ counts) / max(1, total - 1))
    first = np.searchsorted(below, total // 4, side="left")
    third = np.searchsorted(below, total * 3 // 4, side="right")
    spread = min((seen[min(seen.size - 1, third)] - seen[first]) / 1.34, sd)
    # At least 90 % of a kernel's mass in its own cell.
    width = max(1.059 * spread * total**-0.2, 0.5 / 1.64)
    centers = np.append(seen, (places - 1) / 2)
    widths = np.append(np.full(seen.size, width), float(places))
    edges = (np.arange(places + 1) - 0.5 - centers[:, None]) / widths[:, None]
    mass = np.vectorize(math.erf)(edges / math.sqrt(2))
    kernels: Floats = np.diff(mass, axis=1) / (mass[:, -1:] - mass[:, :1])
    return kernels
