"""What all figures share: colours, the runs behind points, limits of axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.report.comparison import Comparison
from harness.runs.record import RunRecord

# Okabe and Ito's palette for colour-blind readers, readable on white and on near-black.
FEASIBLE = "#2b8cc4"
STOPPED = "#8a8f98"
INFEASIBLE = STOPPED
"""Runs that are out of the question, with another symbol than those that were stopped."""
BOUND = "#cc79a7"
BEST = "#d55e00"
SINGLES = ("#2b8cc4", "#009e73", "#cc79a7", "#b8a800", "#56b4e9", "#e69f00")


def points(comparison: Comparison, runs: Sequence[RunRecord]) -> dict[str, Any]:
    """What every trace of runs carries: the rows of the table behind its points, from which the page makes tooltips."""
    return {"customdata": [comparison.place(run) for run in runs], "hoverinfo": "none"}


def axis_limits(values: Sequence[float], *, maximize: bool = False, spreads: float = 4.0) -> tuple[float, float]:
    """The limits of an axis of losses, without runs far off: values more than `spreads` interquartile ranges off."""
    ordered = sorted(values)
    quarter, middle, rest = (ordered[int(share * (len(ordered) - 1))] for share in (0.25, 0.5, 0.75))
    fence = spreads * max(rest - quarter, 0.02 * abs(middle))
    low, high = ordered[0], ordered[-1]
    low, high = (max(low, quarter - fence), high) if maximize else (low, min(high, rest + fence))
    margin = 0.06 * ((high - low) or abs(high) or 1.0)
    return low - margin, high + margin


def shades(comparison: Comparison, runs: Sequence[RunRecord]) -> list[float | None]:
    """How good each run is, from 0 (best) to 1; None if unknown. The page maps shades to its theme's colours."""
    values = [comparison.value(run) for run in runs]
    known = [value for value in values if value is not None]
    if not known:
        return [None] * len(runs)
    low, high = colour_range(comparison, known)
    places = [None if value is None else min(1.0, max(0.0, (value - low) / (high - low))) for value in values]
    return [None if place is None else 1 - place if is_maximized(comparison) else place for place in places]


def colour_range(comparison: Comparison, values: Sequence[float]) -> tuple[float, float]:
    """The objectives at both ends of the colour scale."""
    low, high = axis_limits(values, maximize=is_maximized(comparison), spreads=1.0)
    low, high = max(low, min(values)), min(high, max(values))
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def colour_axis(comparison: Comparison, values: Sequence[float]) -> dict[str, Any]:
    """Plotly's colour axis for the objective; the page adds colours for its theme."""
    low, high = colour_range(comparison, values)
    beyond = any(value < low or value > high for value in values)
    words = "objective (worst clipped)" if beyond else "objective"
    bar = {"thickness": 10, "outlinewidth": 0, "title": {"text": words, "side": "right", "font": {"size": 12}}}
    return {"cmin": low, "cmax": high, "reversescale": is_maximized(comparison), "colorbar": bar}


def is_maximized(comparison: Comparison) -> bool:
    return comparison.objective is not None and comparison.objective.direction == "maximize"
