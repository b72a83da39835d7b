"""How likely a bound holds with a fresh seed, from the few seeds of a confirmation.

A configuration's runs over seeds are taken as a normal sample around its own mean. How far seeds scatter them is learned from all
candidates together: one of them over three seeds says little of it. They share their seeds, and what these do in common counts once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.runs.constraints import Bound, limits_of, margins_of
from harness.runs.paired import CONFIDENCE, seed_noise
from harness.runs.student_t import NORMAL, noncentrality, t_probability, t_quantile


@dataclass(frozen=True)
class Spread:
    """What seeds do to one configuration."""

    sd: float
    seeds: int
    """Behind every mean."""
    degrees: int
    """Of freedom of `sd`: how much is known of it."""

    @property
    def of_the_next(self) -> float:
        """Standard error of a fresh seed's value around the mean that was seen."""
        return self.sd * math.sqrt(1 + 1 / self.seeds)

    @property
    def cautious_degrees(self) -> int:
        """No more than the harmonic mean of these and of what one candidate alone knows: how alike seeds move several candidates is itself
        learned from as few seeds. (With all degrees, 95 % intervals covered 86 % of 8 candidates over 2 seeds that are 90 % alike.)"""
        alone = max(1, self.seeds - 1)
        return min(self.degrees, int(2 * self.degrees * alone / (self.degrees + alone)))


@dataclass(frozen=True)
class Chance:
    """That a run with a fresh seed meets a bound."""

    scores: tuple[float, ...]
    """How far the mean that was seen lies within each side of the bound, in standard deviations."""
    spread: Spread

    @cached_property
    def mean(self) -> float:
        """The predictive probability: that of the next run, with all that is not known about mean and scatter in it."""
        root = math.sqrt(1 + 1 / self.spread.seeds)
        return _of_all([t_probability(score / root, self.spread.degrees) for score in self.scores])

    @cached_property
    def low(self) -> float:
        """Of the share of all seeds that meet it: it is as high at least, with the usual confidence."""
        return _of_all([_share_within(score, self.spread, (1 + CONFIDENCE) / 2) for score in self.scores])

    @cached_property
    def high(self) -> float:
        """It is as high at most."""
        return _of_all([_share_within(score, self.spread, (1 - CONFIDENCE) / 2) for score in self.scores])


def spread_over_seeds(table: Sequence[Sequence[float]]) -> Spread:
    """Of at least one candidate (a row) over the same, at least two seeds (the columns).

    The degrees of freedom are Satterthwaite's (Biometrics Bulletin 2, 1946) for the mean of the candidates' variances, whose correlation is
    the square of that of their values, which is that of the additive model.
    """
    rows, seeds, noise = len(table), len(table[0]), seed_noise(table)
    # Of the additive model candidate + seed + noise: what pairing by seed takes away of the variance.
    alike = max(0.0, 1 - noise.paired_sd**2 / (2 * noise.sd**2)) if rows > 1 and noise.sd > 0 else 0.0
    return Spread(noise.sd, seeds, max(1, int(rows * (seeds - 1) / (1 + (rows - 1) * alike**2))))


def chance_of_holding(bound: Bound, mean: float, spread: Spread) -> Chance:
    """Of a configuration with this mean over `spread.seeds` seeds."""
    return Chance(tuple(_score(distance, spread.sd) for distance in _distances(bound, mean)), spread)


def _share_within(score: float, spread: Spread, above: float) -> float:
    """The share of all seeds that lie within, so that a score is `above`-likely to be no higher than the one that was seen.

    As one-sided tolerance limits are made: the score times the root of the seeds is a noncentral t (Owen, A survey of properties and
    applications of the noncentral t-distribution, Technometrics 10, 1968).
    """
    if math.isinf(score):
        return NORMAL.cdf(score)
    root = math.sqrt(spread.seeds)
    return NORMAL.cdf(noncentrality(score * root, spread.cautious_degrees, above) / root)


def probability_of_meeting(bound: Bound, mean: float, spread: Spread) -> float:
    """How sure it is that a configuration with this mean over `spread.seeds` seeds meets what the bound asks of it: that the mean over all
    seeds lies within, or, with a chance, that this share of all seeds does."""
    asked = NORMAL.inv_cdf(bound["chance"]) if "chance" in bound else 0.0
    return _of_all([_probability_above(asked, _score(distance, spread.sd), spread) for distance in _distances(bound, mean)])


def _probability_above(asked: float, score: float, spread: Spread) -> float:
    if math.isinf(score):
        return 1.0 if score > 0 else 0.0
    return t_probability((score - asked) / _error(asked, spread), spread.degrees)


def with_reserve(bound: Bound, spread: Spread) -> Bound:
    """The bound that a mean has to meet for the chance that is asked for; the same where none is."""
    if "chance" not in bound:
        return bound
    reserve = t_quantile(bound["chance"], spread.degrees) * spread.of_the_next
    return {side: limit - reserve if side == "max" else limit + reserve for side, limit in limits_of(bound).items()}


def _distances(bound: Bound, mean: float) -> list[float]:
    """How far a mean lies within each side of a bound."""
    return [-margin for margin in margins_of(bound, mean).values()]


def _score(distance: float, sd: float) -> float:
    """A distance in standard deviations; what does not scatter is surely on its side."""
    return distance / sd if sd > 0 else math.copysign(math.inf, distance if distance != 0 else 1.0)


def _error(score: float, spread: Spread) -> float:
    """Standard error of a score whose mean and deviation are estimates: that of a quantile of a normal sample."""
    return math.sqrt(1 / spread.seeds + score**2 / (2 * spread.degrees)) if math.isfinite(score) else 0.0


def _of_all(chances: Sequence[float]) -> float:
    """Of a value between two limits: it breaks one of them at most."""
    return max(0.0, 1.0 - sum(1.0 - chance for chance in chances))
