"""A surrogate of runs of full length from runs of all lengths: a Gaussian process over the space and the length.

    f(x, s) = c0 + c1 s + c2(s) + f0(x) + s f1(x) + f2(x, s)

s is 0 at full length and 1 at that of the first rung, on a log scale. f0 is the objective at full length; f1 lets a parameter's effect
shift with the length (of learning rates it does); f2 is what remains of each rung for itself, c2 that the mean over lengths is no
straight line. All are Gaussian processes with Matérn-5/2 kernels that share a length scale for each parameter; c0 and c1 are wide. So
runs of any length inform about any other, as far as they have proved to agree. (A random slope in the place of the kernels over fidelity
of arXiv 1605.07079 and 1703.06240: it extrapolates.)

Observations have noise: the seed moves every run. Runs of one length that share a trunk share most of it; were it taken to be each
one's own, a dozen decays of one trunk with a good draw would prove it good.

The hyperparameters are those of the largest posterior density, found by a fixed number of steps from a fixed start: the same data give the
same model.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
WIDE, LEVEL = 3.0, 0.2
"""Standard deviations of c0 and c1, and of c2, where the observations have 1."""
LENGTH_SCALE, AMPLITUDE, SLOPE, REMAINDER, NOISE = 0.5, 1.0, 0.4, 0.1, 0.03
SPREAD = 0.8
"""Of the log-normal priors around these; the edges of the unit cube and the observations' standard deviation are 1."""
SHARED_NOISE = 0.9
"""Of the variance of the noise, what is the trunk's."""
STEPS, STEP_SIZE = 40, 0.15
"""Of Adam, on the logarithms of the hyperparameters."""
FEWEST, MOST = 3, 200
"""Trials that a model learns from: its cost grows with their third power."""
JITTER = 1e-6
SQRT5 = math.sqrt(5.0)


@dataclass(frozen=True)
class Places:
    """Points at which runs are, or could be."""

    x: Float64
    """[points, dimensions] in the unit cube."""
    s: Float64
    """[points]: 0 at full length, 1 at the shortest."""
    trunk: Int64
    """[points]: runs on the same trunk have the same number."""

    def __len__(self) -> int:
        return len(self.s)

    def __add__(self, other: Places) -> Places:
        return Places(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in ("x", "s", "trunk")))

    def noise_correlation_with(self, other: Places) -> Float64:
        """Correlation of the noise of different runs of the two: [points, points]."""
        return np.asarray(SHARED_NOISE * ((self.trunk[:, None] == other.trunk[None, :]) & (self.s[:, None] == other.s[None, :])))

    @property
    def noise_correlation(self) -> Float64:
        """Correlation of the noise of these runs: [points, points]."""
        correlation = self.noise_correlation_with(self)
        correlation[np.diag_indices_from(correlation)] = 1.0
        return correlation


@dataclass(frozen=True)
class Hyperparameters:
    """As variances, where the observations have 1; of the kernels, and of the noise."""

    length_scales: Float64
    """[parameters]"""
    amplitude: float
    slope: float
    remainder: float
    noise: float

    @classmethod
    def of_logarithms(cls, theta: Float64) -> Hyperparameters:
        """theta: the logarithms of length scales and of the other four as standard deviations."""
        return cls(np.exp(theta[:-4]), *(float(variance) for variance in np.exp(2 * theta[-4:])))


def fit(places: Places, values: Float64, groups: Int64) -> Hyperparameters:
    """The hyperparameters of the largest posterior density. values: [points]; groups: [dimensions], the parameter that each belongs to."""
    scaled = (values - _center(values)) / _scale(values)
    prior = np.log([LENGTH_SCALE] * (int(groups.max()) + 1) + [AMPLITUDE, SLOPE, REMAINDER, NOISE])
    theta, best, highest = prior.copy(), prior, -math.inf
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    squares = np.zeros((len(prior) - 4, len(places), len(places)))
    for dimension, group in enumerate(groups):
        squares[group] += (places.x[:, dimension, None] - places.x[None, :, dimension]) ** 2
    for step in range(1, STEPS + 1):
        density, gradient = _density(theta, scaled, squares, *_between(places, places), places.noise_correlation)
        density -= float(((theta - prior) ** 2).sum()) / (2 * SPREAD**2)
        gradient -= (theta - prior) / SPREAD**2
        if density > highest:
            best, highest = theta.copy(), density
        first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * gradient**2
        theta = theta + STEP_SIZE * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
    return Hyperparameters.of_logarithms(best)


def _density(
    theta: Float64, values: Float64, squares: Float64, slopes: Float64, same: Float64, correlation: Float64
) -> tuple[float, Float64]:
    """The logarithm of the marginal likelihood, up to a constant, and its gradient.

    squares: squared distances, [parameters, points, points]; slopes and same: [points, points], of `_between`; correlation: of the
    places' noise.
    """
    hyper = Hyperparameters.of_logarithms(theta)
    scaled = squares / hyper.length_scales[:, None, None] ** 2
    distance = np.sqrt(scaled.sum(axis=0))
    decay = np.exp(-SQRT5 * distance)
    matern = (1 + SQRT5 * distance + 5 / 3 * distance**2) * decay
    weight = hyper.amplitude + hyper.slope * slopes + hyper.remainder * same
    covariance = weight * matern + WIDE**2 * (1 + slopes) + LEVEL**2 * same
    covariance += hyper.noise * correlation
    covariance[np.diag_indices_from(covariance)] += JITTER
    inverse = np.linalg.inv(covariance)
    alpha = inverse @ values
    density = -0.5 * float(values @ alpha) - 0.5 * float(np.linalg.slogdet(covariance)[1])
    toward = 0.5 * (np.outer(alpha, alpha) - inverse)
    by_distance = toward * weight * (5 / 3) * (1 + SQRT5 * distance) * decay
    gradient = np.empty_like(theta)
    gradient[:-4] = np.tensordot(scaled, by_distance, axes=([1, 2], [0, 1]))
    gradient[-4:] = (
        2 * hyper.amplitude * float((toward * matern).sum()),
        2 * hyper.slope * float((toward * slopes * matern).sum()),
        2 * hyper.remainder * float((toward * same * matern).sum()),
        2 * hyper.noise * float((toward * correlation).sum()),
    )
    return density, gradient


def learned_from(complete: int) -> int:
    """How many of the complete trials hyperparameters are fitted to: anew when there is a fifth more."""
    count = FEWEST
    while max(count + 1, count * 6 // 5) <= complete:
        count = max(count + 1, count * 6 // 5)
    return count


def hyperparameters(places: Places, values: Float64, groups: Int64) -> Hyperparameters:
    """Those of `harness.search.surrogate.fit`, remembered."""
    return _fitted(*(array.tobytes() for array in (places.x, places.s, places.trunk, values)), groups.tobytes())


@lru_cache(maxsize=64)
def _fitted(x: bytes, s: bytes, trunk: bytes, values: bytes, groups: bytes) -> Hyperparameters:
    of_groups, heights = np.frombuffer(groups, dtype=np.int64), np.frombuffer(s)
    places = Places(np.frombuffer(x).reshape(len(heights), len(of_groups)), heights, np.frombuffer(trunk, dtype=np.int64))
    return fit(places, np.frombuffer(values), of_groups)


class Surrogate:
    """The posterior, given observations."""

    def __init__(self, places: Places, values: Float64, groups: Int64, hyperparameters: Hyperparameters) -> None:
        """values: [points], finite; groups: [dimensions], the parameter that each dimension belongs to."""
        self._groups, self._hyper = groups, hyperparameters
        self._center, self._scale = _center(values), _scale(values)
        self._condition(places, (values - self._center) / self._scale)

    def _condition(self, places: Places, values: Float64) -> None:
        self._places, self._values = places, values
        covariance = self._covariance(places, places) + self._hyper.noise * places.noise_correlation
        covariance[np.diag_indices_from(covariance)] += JITTER
        self._factor = np.linalg.inv(np.linalg.cholesky(covariance))
        self._alpha = self._factor.T @ (self._factor @ values)

    def expecting(self, places: Places) -> Surrogate:
        """The model with runs under way counted as ended at their expected values."""
        if not len(places):
            return self
        expected = (self.predict(places)[0] - self._center) / self._scale
        model = copy(self)
        model._condition(self._places + places, np.concatenate([self._values, expected]))
        return model

    def predict(self, places: Places) -> tuple[Float64, Float64]:
        """Mean and standard deviation at each place, without an observation's noise: [places] each."""
        across = self._covariance(places, self._places)
        variance = self._variance(places) - ((across @ self._factor.T) ** 2).sum(axis=1)
        return self._center + self._scale * (across @ self._alpha), self._scale * np.sqrt(np.maximum(variance, 1e-12))

    def resolved(self, places: Places) -> Float64:
        """What share of the variance at the same points, at full length, an observation at each place would take away: [places]."""
        full = Places(places.x, np.zeros(len(places)), places.trunk)
        observed = self._covariance(places, self._places) + self._hyper.noise * places.noise_correlation_with(self._places)
        here, there = (across @ self._factor.T for across in (observed, self._covariance(full, self._places)))
        prior = self._hyper.amplitude + WIDE**2 + (self._hyper.remainder + LEVEL**2) * (places.s == 0)
        between = prior - (here * there).sum(axis=1)
        own = np.maximum(self._variance(places) - (here**2).sum(axis=1), 1e-12) + self._hyper.noise
        wanted = np.maximum(self._variance(full) - (there**2).sum(axis=1), 1e-12)
        return np.asarray(np.minimum(between**2 / (own * wanted), 1.0))

    def _covariance(self, one: Places, other: Places) -> Float64:
        a, b = (places.x / self._hyper.length_scales[self._groups] for places in (one, other))
        squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * a @ b.T
        distance = np.sqrt(np.maximum(squared, 0.0))
        matern = (1 + SQRT5 * distance + 5 / 3 * distance**2) * np.exp(-SQRT5 * distance)
        slopes, same = _between(one, other)
        weight = self._hyper.amplitude + self._hyper.slope * slopes + self._hyper.remainder * same
        return np.asarray(weight * matern + WIDE**2 * (1 + slopes) + LEVEL**2 * same)

    def _variance(self, places: Places) -> Float64:
        """Before any observation: [places]"""
        squared = places.s**2
        return np.asarray(self._hyper.amplitude + self._hyper.remainder + self._hyper.slope * squared + WIDE**2 * (1 + squared) + LEVEL**2)


def _between(one: Places, other: Places) -> tuple[Float64, Float64]:
    """Of the lengths of two sets of places: their product, and whether they are the same; [one, other] each."""
    return np.outer(one.s, other.s), (one.s[:, None] == other.s[None, :]).astype(np.float64)


def _center(values: Float64) -> float:
    return float(np.median(values))


def _scale(values: Float64) -> float:
    return float(values.std()) or 1.0
