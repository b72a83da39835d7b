"""Comparing candidates of which some ran over more seeds than others: the additive model candidate + seed + noise, with gaps.

What seeds do to all alike is taken out with flat priors; the candidates' true means are a normal sample, whose spread in units of the
noise is not known and integrated over, as the noise is (see `harness.runs.paired.probabilities_of_lowest`, which needs no gaps).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.runs.paired import SPREADS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DRAWS = 2000
"""Of each spread."""
NOTHING = 1e-12
"""A residual below this share of what the candidates differ by is rounding."""

Row = Mapping[int, float]
"""A candidate's values by seed."""


def adjusted_means(rows: Sequence[Row]) -> list[float]:
    """The candidates' means, as far as seeds that only some of them ran with allow: least squares of the additive model, around 0."""
    import numpy as np

    precision, weighted, _ = _without_seeds(rows)
    found: list[float] = (np.linalg.pinv(precision) @ weighted).tolist()
    return found


def probabilities_of_lowest(rows: Sequence[Row], *, seed: int = 0) -> list[float]:
    """For each candidate the probability that its mean over all seeds is the lowest; they add up to 1. The same for the same rows.

    The posterior is that of a normal linear model (Gelman et al., Bayesian Data Analysis, 3rd ed., 14.2), drawn from.
    rows: each with at least one seed; seeds that only one candidate ran with say nothing.
    """
    import numpy as np

    count = len(rows)
    precision, weighted, squares = _without_seeds(rows)
    degrees = sum(map(len, rows)) - len({place for row in rows for place in row})
    if count == 1 or degrees < 1:
        return [1 / count] * count
    fitted = np.linalg.pinv(precision) @ weighted
    explained = float(weighted @ fitted)
    if squares - explained <= NOTHING * max(explained, NOTHING):
        lowest = fitted <= fitted.min() + NOTHING * max(1.0, float(np.abs(fitted).max()))
        return [float(share) for share in lowest / lowest.sum()]
    generator = np.random.default_rng(seed)
    normals = generator.standard_normal((DRAWS, count))
    scales = np.sqrt(degrees / generator.chisquare(degrees, DRAWS))
    logs, won = [], []
    for spread in SPREADS:
        eigen, vectors = np.linalg.eigh(precision + np.eye(count) / spread**2)
        mean = vectors @ ((vectors.T @ weighted) / eigen)
        residual = squares - float(weighted @ mean)
        logs.append(-(float(np.log(eigen).sum()) + 2 * count * math.log(spread) + degrees * math.log(residual)) / 2)
        drawn = mean + math.sqrt(residual / degrees) * scales[:, None] * ((normals / np.sqrt(eigen)) @ vectors.T)
        won.append(np.bincount(drawn.argmin(axis=1), minlength=count) / DRAWS)
    weights = np.exp(np.array(logs) - max(logs))
    found: list[float] = (weights @ np.array(won) / weights.sum()).tolist()
    return found


def _without_seeds(rows: Sequence[Row]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """What the values say once each seed's mean is taken away, in units of the noise: the precision of the candidates' means [candidates,
    candidates], the values weighted by it [candidates], and the sum of their squares."""
    import numpy as np

    precision, weighted, squares = np.zeros((len(rows), len(rows))), np.zeros(len(rows)), 0.0
    for place in sorted({place for row in rows for place in row}):
        present = [index for index, row in enumerate(rows) if place in row]
        values = np.array([rows[index][place] for index in present])
        centred = values - values.mean()
        precision[np.ix_(present, present)] += np.eye(len(present)) - 1 / len(present)
        weighted[present] += centred
        squares += float(centred @ centred)
    return precision, weighted, squares
