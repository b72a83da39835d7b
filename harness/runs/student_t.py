"""Student's t distribution with whole degrees of freedom, in the standard library: status and best shall not wait for scipy."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

NORMAL = NormalDist()
STEPS, REACH = 200, 8.0
"""Of the integral over a normal variable, and how many of its deviations it goes."""
MANY = 500
"""Degrees of freedom that more are taken for: probabilities change by less than 0.005, and sums of more terms overflow."""


def t_probability(t: float, degrees: int) -> float:
    """P(T <= t) of Student's t with `degrees` >= 1 degrees of freedom.

    By the finite sums of Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    assert degrees >= 1
    angle = math.atan(t / math.sqrt(degrees))
    cosine = math.cos(angle)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(3 if odd else 2, degrees, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    within = math.sin(angle) * total
    if odd:
        within = 2 / math.pi * (angle + within)
    return (1 + within) / 2


def t_quantile(probability: float, degrees: int) -> float:
    """The t with P(T <= t) = probability, for 0 < probability < 1."""
    assert 0 < probability < 1
    if probability < 0.5:
        return -t_quantile(1 - probability, degrees)
    low, high = 0.0, 1.0
    while t_probability(high, degrees) < probability:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if t_probability(middle, degrees) < probability else (low, middle)
    return high


def noncentral_t_probability(t: float, degrees: int, shift: float) -> float:
    """P((Z + shift) / U <= t), where Z is standard normal and U² chi-squared with `degrees` >= 1 degrees of freedom, divided by them.

    The mean over Z, by Simpson's rule, of what remains of U.
    """
    if t < 0:
        return 1 - noncentral_t_probability(-t, degrees, -shift)
    degrees = min(degrees, MANY)
    # Below -shift the numerator is negative, and any U will do; no U is so large that it is above the other end.
    low, high = max(-shift, -REACH), min(t * math.sqrt((degrees + 12 * math.sqrt(2 * degrees) + 60) / degrees) - shift, REACH)
    if high <= low:
        return NORMAL.cdf(-shift)
    width = (high - low) / STEPS
    places = [low + place * width for place in range(STEPS + 1)]
    values = [NORMAL.pdf(z) * _chi_squared_above(degrees * ((z + shift) / t) ** 2, degrees) for z in places]
    above = width / 3 * (values[0] + 4 * sum(values[1:-1:2]) + 2 * sum(values[2:-1:2]) + values[-1])
    return NORMAL.cdf(-shift) + above


@lru_cache(maxsize=256)
def noncentrality(t: float, degrees: int, probability: float) -> float:
    """The shift with which `noncentral_t_probability` of t is `probability`: it falls as the shift grows."""
    low, high = t - 1.0, t + 1.0
    while noncentral_t_probability(t, degrees, low) < probability:
        low -= 2 * (high - low)
    while noncentral_t_probability(t, degrees, high) > probability:
        high += 2 * (high - low)
    while high - low > 1e-9 * max(1.0, abs(low), abs(high)):
        middle = (low + high) / 2
        low, high = (middle, high) if noncentral_t_probability(t, degrees, middle) > probability else (low, middle)
    return (low + high) / 2


def _chi_squared_above(value: float, degrees: int) -> float:
    """P(X > value) of a chi-squared variable. By the finite sums of Abramowitz and Stegun, 26.4.4 and 26.4.5."""
    root = math.sqrt(value)
    if degrees % 2 == 0:
        term = total = 1.0
        for k in range(2, degrees, 2):
            term *= value / k
            total += term
        return math.exp(-value / 2) * total
    term, total = root, 0.0
    for k in range(1, degrees, 2):
        total += term
        term *= value / (k + 2)
    return math.erfc(root / math.sqrt(2)) + 2 * NORMAL.pdf(root) * total
