"""Training curves: metrics and learning rates over tokens, a line a run, coloured by its objective."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any

from harness.report.comparison import Comparison
from harness.report.figure_style import BEST, INFEASIBLE, SINGLES, STOPPED, axis_limits, colour_axis, shades
from harness.report.text import with_unit
from harness.runs.record import RunRecord

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

LIMIT = 50
"""More curves hide each other and make the page heavy."""
POINTS = 300
"""Points of one curve."""


Line = tuple[RunRecord, list[float], list[float]]
"""A run, tokens, values."""


def drawn_runs(comparison: Comparison) -> list[RunRecord]:
    """The best runs with logged rows, and every single run: at most LIMIT."""
    singles = [run for run in comparison.runs if not comparison.is_trial(run) and run.rows][:LIMIT]
    trials: list[RunRecord] = []
    for run in comparison.runs:
        if len(trials) + len(singles) >= LIMIT:
            break
        if comparison.is_trial(run) and run.rows:
            trials.append(run)
    return [*trials, *singles]


def curve(comparison: Comparison, metric: str) -> Figure | None:
    """A metric over tokens."""
    lines = list(_lines(comparison, metric))
    if not lines:
        return None
    figure = _figure(comparison, lines, metric)
    # The first steps are far above everything that matters.
    later = [value for _, _, values in lines for value in values[len(values) // 10 :]]
    limits = comparison.constraints.get(metric, {}).values()
    figure.update_yaxes(range=axis_limits([*later, *limits], spreads=10))
    for limit in limits:
        figure.add_hline(y=limit, line={"color": INFEASIBLE, "dash": "dash", "width": 1.5})
    return figure


def rates(comparison: Comparison) -> Figure | None:
    """The learning rate over tokens."""
    lines = list(_lines(comparison, "lr"))
    peaks = [max(values) for _, _, values in lines]
    if not lines or max(peaks) <= 0:
        return None
    figure = _figure(comparison, lines, "lr")
    figure.update_yaxes(tickformat=".1e")
    if min(peaks) * 10 < max(peaks):
        # Decays go to zero: what is below a thirtieth of the lowest peak is cut off.
        lowest = min(peak for peak in peaks if peak > 0)
        figure.update_yaxes(type="log", range=[math.log10(lowest / 30), math.log10(max(peaks) * 1.5)], dtick=1, tickformat=".0e")
    return figure


def _lines(comparison: Comparison, metric: str) -> Iterator[Line]:
    for run in drawn_runs(comparison):
        logged = [(row["tokens"], row[metric]) for row in run.rows if row.get(metric) is not None and row.get("tokens") is not None]
        stride = max(1, len(logged) // POINTS)
        kept = logged[::stride] if not logged or (len(logged) - 1) % stride == 0 else [*logged[::stride], logged[-1]]
        if kept:
            yield run, [tokens for tokens, _ in kept], [value for _, value in kept]


def _figure(comparison: Comparison, lines: list[Line], title: str) -> Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    shade_of = shades(comparison, [run for run, _, _ in lines])
    # The last line drawn lies on top: single runs, and the best of all.
    for index, (run, tokens, values) in sorted(enumerate(lines), key=lambda item: _layer(comparison, *item)):
        emphasis = run is comparison.best or not comparison.is_trial(run)
        figure.add_trace(
            go.Scatter(
                x=tokens,
                y=values,
                mode="lines" if len(values) > 1 else "markers",
                name=escape(f"best: {run.name}" if run is comparison.best else run.name),
                line=_line(comparison, run, index, shade_of[index]),
                opacity=1 if emphasis else 0.75,
                showlegend=emphasis,
                hoverinfo="none",
                meta={"run": comparison.place(run), "shade": shade_of[index]},
            )
        )
    objectives = [value for run, _, _ in lines if (value := comparison.value(run)) is not None]
    if objectives and comparison.studies:
        # A point that shows nothing carries the colour bar.
        bar = {"color": [objectives[0]], "coloraxis": "coloraxis", "opacity": 0}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=bar, showlegend=False, hoverinfo="skip"))
        figure.update_layout(coloraxis=colour_axis(comparison, objectives))
    figure.update_xaxes(title="tokens", rangemode="tozero")
    figure.update_yaxes(title=escape(with_unit(title)))
    return figure


def _layer(comparison: Comparison, index: int, line: Line) -> tuple[bool, bool, int]:
    run = line[0]
    return run is comparison.best, not comparison.is_trial(run), -index


def _line(comparison: Comparison, run: RunRecord, index: int, shade: float | None) -> dict[str, Any]:
    """The best and single runs are emphasised; the page colours the others by their shade."""
    if run is comparison.best:
        return {"color": BEST, "width": 3}
    if not comparison.is_trial(run):
        return {"color": SINGLES[index % len(SINGLES)], "width": 2, "dash": "dash" if comparison.studies else "solid"}
    return {"color": STOPPED if shade is None else None, "width": 1.4}
