"""Student's t distribution with whole degrees of freedom, in the standard library: status and best shall not wait for scipy."""

from __future__ import annotations

import math


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
