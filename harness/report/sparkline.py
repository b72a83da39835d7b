"""A curve in a few characters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], low: float, high: float, *, width: int) -> str:
    """The means of at most `width` equal parts of the curve, as bars between `low` and `high`; values outside are clipped."""
    if not values:
        return ""
    parts = min(width, len(values))
    bounds = [len(values) * part // parts for part in range(parts + 1)]
    means = [sum(values[begin:end]) / (end - begin) for begin, end in pairwise(bounds)]
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[min(len(BARS) - 1, max(0, round(scale * (mean - low))))] for mean in means)
