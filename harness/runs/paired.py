"""Comparing candidates over the same seeds: means, paired differences, and the probability that each is the best.

Every candidate runs with the same seeds (the same order of data, the same initial values, the same validation sets), so that what a seed
does to all of them cancels in their differences: a randomized block design whose blocks are the seeds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.runs.student_t import t_quantile

if TYPE_CHECKING:
    import numpy as np

CONFIDENCE = 0.95
"""Of every interval."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its two-sided Student t interval, of n - 1 degrees of freedom."""

    mean: float
    sd: float
    """Sample standard deviation over seeds, with n - 1."""
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def mean_interval(values: Sequence[float]) -> Interval:
    """Of at least two values, one a seed."""
    mean, sd = statistics.fmean(values), statistics.stdev(values)
    reach = t_quantile((1 + CONFIDENCE) / 2, len(values) - 1) * sd / math.sqrt(len(values))
    return Interval(mean, sd, mean - reach, mean + reach)


RESAMPLES = 2000


def bootstrap_interval(values: Sequence[float], *, seed: int = 0) -> Interval:
    """Of at least two values, one a prompt: their mean and its percentile bootstrap interval (Efron and Tibshirani, 1993, chapter 13).

    Prompts are drawn, not texts: texts after one prompt are alike. Values that differ by few sizes, such as 0 and 1, are no normal
    sample, so that Student's t says little of them.
    """
    import numpy as np

    drawn, given = np.random.default_rng(seed), np.asarray(values)
    # One after the other: all at once would be RESAMPLES times as many numbers.
    low, high = _middle(float(given[drawn.integers(len(given), size=len(given))].mean()) for _ in range(RESAMPLES))
    return Interval(statistics.fmean(values), statistics.stdev(values), low, high)


def ratio_interval(strata: Sequence[Sequence[tuple[float, float]]], *, seed: int = 0) -> Interval:
    """Of sums over sizes, the mean over the strata, each of which counts the same: nats over tokens of documents, set by set.

    strata: of each set, the (sum, size) of its documents, at least two, which are drawn within their set. `sd` is that of the estimate.
    """
    import numpy as np

    drawn, given = np.random.default_rng(seed), [np.asarray(one, dtype=float) for one in strata]

    def estimate(parts: Sequence[np.ndarray[Any, Any]]) -> float:
        return statistics.fmean(float(sums) / float(sizes) for sums, sizes in (part.sum(axis=0) for part in parts))

    found = [estimate([one[drawn.integers(len(one), size=len(one))] for one in given]) for _ in range(RESAMPLES)]
    return Interval(estimate(given), statistics.stdev(found), *_middle(found))


def _middle(estimates: Iterable[float]) -> tuple[float, float]:
    """The ends of the middle CONFIDENCE of RESAMPLES estimates."""
    ordered = sorted(estimates)
    outside = round((1 - CONFIDENCE) / 2 * RESAMPLES)
    return ordered[outside], ordered[-1 - outside]


@dataclass(frozen=True)
class Noise:
    """What seeds alone change."""

    sd: float
    """Of one configuration over seeds: the root of the mean variance of the candidates."""
    paired_sd: float
    """Of the difference between two configurations that run with the same seed."""
    degrees: int
    """Degrees of freedom of `paired_sd`."""

    @property
    def least_difference(self) -> float:
        """Two single runs with the same seed that differ by less cannot be told apart, with the usual confidence."""
        return t_quantile((1 + CONFIDENCE) / 2, self.degrees) * self.paired_sd


def seed_noise(table: Sequence[Sequence[float]]) -> Noise:
    """Of at least one candidate (a row) over at least two seeds (the columns).

    The paired noise is the residual of the additive model candidate + seed. With one candidate nothing shows what would cancel: then
    the noise of a difference is taken as that of two unpaired runs, which is no less.
    """
    sd = math.sqrt(statistics.fmean(statistics.variance(row) for row in table))
    if len(table) == 1:
        return Noise(sd, math.sqrt(2) * sd, len(table[0]) - 1)
    degrees = (len(table) - 1) * (len(table[0]) - 1)
    return Noise(sd, math.sqrt(2 * _residual_squares(table) / degrees), degrees)


def _residual_squares(table: Sequence[Sequence[float]]) -> float:
    of_seeds = [statistics.fmean(column) for column in zip(*table, strict=True)]
    of_candidates = [statistics.fmean(row) for row in table]
    all_of_them = statistics.fmean(of_candidates)
    return sum(
        (value - of_candidates[row] - of_seeds[column] + all_of_them) ** 2
        for row, values in enumerate(table)
        for column, value in enumerate(values)
    )


def probabilities_of_lowest(table: Sequence[Sequence[float]]) -> list[float]:
    """For each candidate (a row, over the same seeds) the probability that its mean over all seeds is the lowest; they add up to 1.

    The posterior of the additive model candidate + seed + normal noise of one variance, with the usual flat prior (Box and Tiao, Bayesian
    Inference in Statistical Analysis, 1973, 2.11 and 6): the means are jointly t distributed with (candidates - 1)(seeds - 1) degrees of
    freedom. For two candidates it is the posterior of the paired t-test (Benavoli et al., JMLR 18(77), 2017, without their correlation).
    The integral over the noise and over the candidate's own mean is taken by the trapezoidal rule.
    """
    means = [statistics.fmean(row) for row in table]
    if len(table) == 1:
        return [1.0]
    seeds, degrees = len(table[0]), (len(table) - 1) * (len(table[0]) - 1)
    error = math.sqrt(_residual_squares(table) / degrees / seeds)
    spread = max(means) - min(means)
    if error <= 1e-12 * max(spread, max(map(abs, means))):
        # Without noise nothing is uncertain.
        lowest = [mean == min(means) for mean in means]
        return [won / sum(lowest) for won in lowest]
    found = [0.0] * len(means)
    for scale, weight in _noise_scales(degrees):
        for index, probability in enumerate(_lowest_given([mean * scale / error for mean in means])):
            found[index] += weight * probability
    return [probability / sum(found) for probability in found]


def _noise_scales(degrees: int, places: int = 64) -> list[tuple[float, float]]:
    """(estimated sd / true sd, weight) over the posterior of the noise, evenly spaced in the logarithm: the square is chi2 / degrees."""
    low, high = -16 / degrees - 6 / math.sqrt(degrees), 4 / math.sqrt(degrees)
    logs = [low + (high - low) * place / (places - 1) for place in range(places)]
    return [(math.exp(x), math.exp(degrees * (x - math.exp(2 * x) / 2 + 0.5))) for x in logs]


def _lowest_given(means: Sequence[float], step: float = 0.25, reach: float = 8.0) -> list[float]:
    """The probability that each of independent normals with unit variance is the lowest."""
    places = [step * place for place in range(round(-reach / step), round(reach / step) + 1)]
    return [
        sum(
            step
            * math.exp(-z * z / 2)
            / math.sqrt(2 * math.pi)
            * math.prod(math.erfc((mean + z - other) / math.sqrt(2)) / 2 for place, other in enumerate(means) if place != index)
            for z in places
        )
        for index, mean in enumerate(means)
    ]
