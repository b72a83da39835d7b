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


def mean_interval(values: Sequence[float], *, of_draws: bool = False) -> Interval:
    """Of at least two values, one a seed.

    of_draws: one a bootstrap draw of the same data. Their sd is itself the standard error of what was found from these data (Efron and
    Tibshirani, 1993, chapter 6), which more draws do not make smaller; they make the mean of the draws more certain alone.
    """
    mean, sd = statistics.fmean(values), statistics.stdev(values)
    reach = t_quantile((1 + CONFIDENCE) / 2, len(values) - 1) * sd * math.sqrt(of_draws + 1 / len(values))
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


SPREADS = [0.05 * 100 ** (place / 31) for place in range(32)]
"""Of the candidates' true means, in units of the noise: from so near that nothing tells them apart to so far that one seed does."""


def probabilities_of_lowest(table: Sequence[Sequence[float]]) -> list[float]:
    """For each candidate (a row, over the same seeds) the probability that its mean over all seeds is the lowest; they add up to 1.

    The posterior of the additive model candidate + seed + normal noise of one variance, whose candidates are themselves a normal sample
    (Gelman et al., Bayesian Data Analysis, 3rd ed., 5.4; Box and Tiao, Bayesian Inference in Statistical Analysis, 1973, 7.2): those that
    a search hands over may be nearly alike, and then the first of them was lucky. Two things are not known and integrated over, evenly in
    their logarithms: the noise, and the candidates' spread in units of it. It is of these candidates alone, not of all trials.
    """
    means = [statistics.fmean(row) for row in table]
    if len(table) == 1:
        return [1.0]
    seeds, degrees = len(table[0]), (len(table) - 1) * len(table[0])
    within, centre = _residual_squares(table), statistics.fmean(means)
    if math.sqrt(within) <= 1e-12 * max(abs(mean - centre) for mean in means) or within == 0:
        # Without noise nothing is uncertain.
        lowest = [mean == min(means) for mean in means]
        return [won / sum(lowest) for won in lowest]
    between = seeds * math.fsum((mean - centre) ** 2 for mean in means)
    noise = _noise_scales(degrees)
    leads: list[tuple[float, float]] = []
    for spread in SPREADS:
        # Of a mean over seeds, how much wider it scatters than noise alone would make it, squared.
        widened = 1 + seeds * spread**2
        squares = (within + between / widened) / within
        weight = math.exp(-((len(table) - 1) * math.log(widened) + degrees * math.log(squares)) / 2)
        slope = math.sqrt((1 - 1 / widened) * seeds * degrees / (squares * within))
        leads += [(slope * scale, weight * weight_of_noise) for scale, weight_of_noise in noise]
    found = [0.0] * len(means)
    for slope, weight in _on_few_places(leads):
        for index, probability in enumerate(_lowest_given([slope * (mean - centre) for mean in means])):
            found[index] += weight * probability
    return [probability / sum(found) for probability in found]


def _on_few_places(weighted: Sequence[tuple[float, float]], places: int = 40) -> list[tuple[float, float]]:
    """(value, weight) of many positive values, as weights of few that are evenly spaced in the logarithm: by linear interpolation."""
    logs = [math.log(value) for value, _ in weighted]
    low, step = min(logs), (max(logs) - min(logs)) / (places - 1)
    weights = [0.0] * places
    for log, (_, weight) in zip(logs, weighted, strict=True):
        place = min(int((log - low) / step), places - 2)
        share = (log - low) / step - place
        weights[place] += weight * (1 - share)
        weights[place + 1] += weight * share
    return [(math.exp(low + step * place), weight) for place, weight in enumerate(weights)]


def _noise_scales(degrees: int, places: int = 32) -> list[tuple[float, float]]:
    """(estimated sd / true sd, weight) over the posterior of the noise, evenly spaced in the logarithm: the square is chi2 / degrees."""
    low, high = -16 / degrees - 6 / math.sqrt(degrees), 4 / math.sqrt(degrees)
    logs = [low + (high - low) * place / (places - 1) for place in range(places)]
    return [(math.exp(x), math.exp(degrees * (x - math.exp(2 * x) / 2 + 0.5))) for x in logs]


def _lowest_given(means: Sequence[float], step: float = 0.5, reach: float = 8.0) -> list[float]:
    """The probability that each of independent normals with unit variance is the lowest, by the trapezoidal rule."""
    least, root = min(means), math.sqrt(2)
    found = [0.0] * len(means)
    for place in range(round(-reach / step), round(reach / step) + 1):
        apart = [least + step * place - mean for mean in means]
        above = [math.erfc(distance / root) / 2 for distance in apart]
        of_all = math.prod(above)
        for index, distance in enumerate(apart):
            found[index] += step * math.exp(-distance * distance / 2) / math.sqrt(2 * math.pi) * of_all / above[index]
    return found
