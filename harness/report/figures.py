"""Figures of the search, one function each; None where there is nothing to show."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

from harness.report.axis import is_numeric, linear_ticks, log_ticks, named, parameter_axis
from harness.report.comparison import Comparison
from harness.report.figure_style import BEST, BOUND, FEASIBLE, INFEASIBLE, STOPPED, axis_limits, is_maximized, points, shades
from harness.report.text import ABSENT, metric_text, short_names, value_text, with_unit
from harness.runs.pareto import front
from harness.runs.record import RunRecord

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

GOLDEN = 0.618034
"""Multiples of it, without their whole part, are spread evenly however many there are."""
FEW = 30
"""Points of a choice that stand above each other without hiding each other."""
NEAR = 0.06
"""As a share of an axis: ticks nearer to its end would overlap the tick there."""
LOG_MARGIN = 0.05
"""In decades, beyond the ticks at both ends: within one decade the values alone would leave both outside."""


def finished(comparison: Comparison) -> list[tuple[RunRecord, float]]:
    """The complete runs of full length that have an objective, in rank order, with it."""
    values = [(run, comparison.value(run)) for run in comparison.runs if run.state == "complete" and comparison.has_full_length(run)]
    return [(run, value) for run, value in values if value is not None]


def add_points(figure: Figure, comparison: Comparison, placed: list[tuple[RunRecord, Any, Any]]) -> None:
    """Complete runs as points: infeasible, feasible, and on top the best of all."""
    add_others(figure, comparison, placed)
    add_best(figure, comparison, placed)


def add_others(figure: Figure, comparison: Comparison, placed: list[tuple[RunRecord, Any, Any]]) -> None:
    others = [place for place in placed if place[0] is not comparison.best]
    within = [place for place in others if comparison.feasible(place[0]) is not False]
    outside = [place for place in others if comparison.feasible(place[0]) is False]
    size = 8 if len(placed) <= 200 else 5
    name = "feasible" if comparison.constraints else "complete"
    add_markers(figure, comparison, outside, "infeasible", {"symbol": "diamond-open", "color": INFEASIBLE, "size": size + 1})
    add_markers(figure, comparison, within, name, {"symbol": "circle", "color": FEASIBLE, "size": size, "opacity": 0.85})


def add_best(figure: Figure, comparison: Comparison, placed: list[tuple[RunRecord, Any, Any]]) -> None:
    star = {"symbol": "star", "color": BEST, "size": 15, "line": {"width": 1, "color": "#ffffff"}}
    add_markers(figure, comparison, [place for place in placed if place[0] is comparison.best], "best", star)


def add_markers(
    figure: Figure, comparison: Comparison, placed: list[tuple[RunRecord, Any, Any]], name: str, marker: dict[str, Any]
) -> None:
    import plotly.graph_objects as go

    if placed:
        runs, x, y = zip(*placed, strict=True)
        figure.add_trace(go.Scatter(x=x, y=y, name=name, mode="markers", marker=marker, **points(comparison, runs)))


def importances(comparison: Comparison) -> Figure | None:
    """Bars of the parameter importances."""
    import plotly.graph_objects as go

    shares = list(comparison.importances.shares.values())
    if not shares:
        return None
    names = short_names(list(comparison.importances.shares))
    bar = go.Bar(
        x=shares,
        y=[escape(names[key]) for key in comparison.importances.shares],
        orientation="h",
        marker={"color": FEASIBLE},
        text=[comparison.importances.text(key) for key in comparison.importances.shares],
        error_x=_interval_bars(comparison),
        textposition="outside",
        cliponaxis=False,
        hoverinfo="skip",
    )
    figure = go.Figure(bar)
    # For the words behind the longest bar.
    room = 1.55 if comparison.importances.intervals else 1.45 if comparison.importances.is_rough else 1.18
    figure.update_xaxes(
        tickformat=".0%",
        range=[0, max(shares) * room],
        title=comparison.importances.of,
    )
    figure.update_yaxes(autorange="reversed", type="category", automargin=True, showgrid=False)
    return figure


def _interval_bars(comparison: Comparison) -> dict[str, Any] | None:
    found = comparison.importances
    if not found.intervals:
        return None
    ends = [(share, *found.intervals.get(key, (share, share))) for key, share in found.shares.items()]
    above, below = [max(0.0, high - share) for share, _, high in ends], [max(0.0, share - low) for share, low, _ in ends]
    return {"array": above, "arrayminus": below, "symmetric": False, "color": STOPPED, "thickness": 1.5}


def parallel(comparison: Comparison) -> Figure | None:
    """Every complete run as a line through its parameters to its objective."""
    import plotly.graph_objects as go

    done = finished(comparison)
    if comparison.objective is None or len(done) < 2 or not comparison.columns:
        return None
    names = short_names(comparison.columns, list({comparison.objective.metric, *comparison.trade_offs}))
    params = [comparison.params(run) for run, _ in done]
    objectives = [value for _, value in done]
    dimensions: list[dict[str, Any]] = []
    for key in comparison.columns:
        values = [of_run.get(key, ABSENT) for of_run in params]
        if any(value != ABSENT for value in values):
            axis = parameter_axis(comparison.space.get(key, {}), values)
            ticks = {"tickvals": list(axis.ticks), "ticktext": list(axis.ticks.values())}
            dimensions.append({"label": names[key], "values": axis.positions, "range": axis.range, **ticks})
    for metric, sign in comparison.trade_offs.items():
        weighed = [comparison.metric(run, metric) for run, _ in done]
        known = [value for value in weighed if value is not None]
        if metric != comparison.objective.metric and len(known) == len(done):
            dimensions.append(_metric_dimension(names[metric], known, axis_limits(known, maximize=sign < 0, spreads=20)))
    dimensions.append(
        _metric_dimension(names[comparison.objective.metric], objectives, axis_limits(objectives, maximize=is_maximized(comparison)))
    )
    order = done[::-1]
    for dimension in dimensions:
        dimension["values"] = dimension["values"][::-1]
    ranks = [
        _parallel_rank(comparison, run, shade) for (run, _), shade in zip(order, shades(comparison, [run for run, _ in order]), strict=True)
    ]
    best = comparison.place(comparison.best) if comparison.best else None
    meta = {"runs": [comparison.place(run) for run, _ in order], "best": best}
    return go.Figure(go.Parcoords(dimensions=dimensions, line={"color": ranks, "cmin": -1, "cmax": 1}, meta=meta))


def _parallel_rank(comparison: Comparison, run: RunRecord, shade: float | None) -> float:
    """From 0 to 1 the better, below 0 if it is infeasible: the page makes colours of it. Plotly draws the higher ones on top."""
    return -1.0 if comparison.feasible(run) is False or shade is None else 1 - shade


def _metric_dimension(label: str, values: list[float], limits: tuple[float, float]) -> dict[str, Any]:
    """Values outside of the limits are at the edge, where a tick says what they are."""
    low, high = limits
    ends = [min(max(value, low), high) for value in values]
    shown = min(ends), max(ends)
    dimension = {"label": label, "values": ends, "range": list(shown)}
    off = {
        edge: sorted(beyond) for edge in limits if (beyond := {value for value in values if min(max(value, low), high) == edge != value})
    }
    if not off:
        return dimension
    room = NEAR * (high - low)
    ticks = named([tick for tick in linear_ticks(*shown) if low + room < tick < high - room])
    ticks |= {edge: f"far off: {' … '.join(dict.fromkeys(map(metric_text, (beyond[0], beyond[-1]))))}" for edge, beyond in off.items()}
    return {**dimension, "tickvals": list(ticks), "ticktext": list(ticks.values())}


def slice_of(comparison: Comparison, parameter: str) -> Figure | None:
    """The objective against one parameter."""
    import plotly.graph_objects as go

    done = [(run, comparison.params(run).get(parameter, ABSENT), value) for run, value in finished(comparison)]
    given = [value for _, value, _ in done if value != ABSENT]
    if comparison.objective is None or not given:
        return None
    figure = go.Figure()
    if is_numeric(comparison.space.get(parameter, {}), given):
        add_points(figure, comparison, [place for place in done if place[1] != ABSENT])
        if comparison.is_log(parameter):
            ticks = log_ticks(min(given), max(given))
            ends = [math.log10(ticks[0]) - LOG_MARGIN, math.log10(ticks[-1]) + LOG_MARGIN]
            figure.update_xaxes(type="log", tickvals=ticks, ticktext=[value_text(tick, log=True) for tick in ticks], range=ends)
    else:
        # Beside each other, or the points of a choice would hide each other.
        axis = parameter_axis(comparison.space.get(parameter, {}), [value for _, value, _ in done])
        aside = [0.5 * ((index * GOLDEN) % 1 - 0.5) if len(done) > FEW else 0.0 for index in range(len(done))]
        places = [position + by for position, by in zip(axis.positions, aside, strict=True)]
        add_points(figure, comparison, [(run, x, y) for (run, _, y), x in zip(done, places, strict=True)])
        labels = [escape(label) for label in axis.ticks.values()]
        figure.update_xaxes(tickvals=list(axis.ticks), ticktext=labels, range=[-0.6, len(labels) - 0.4], showgrid=False)
    figure.update_yaxes(
        range=axis_limits([value for _, _, value in done], maximize=is_maximized(comparison)),
        title=escape(with_unit(comparison.objective.metric)),
    )
    figure.update_layout(showlegend=False)
    return figure


def tradeoff(comparison: Comparison, metric: str) -> Figure | None:
    """The objective against another metric, its bound, and the runs that nothing beats in both."""
    import plotly.graph_objects as go

    placed = [(run, at, value) for run, value in finished(comparison) if (at := comparison.metric(run, metric)) is not None]
    if comparison.objective is None or not placed:
        return None
    bound = comparison.constraints.get(metric, {})
    x_sign, y_sign = comparison.trade_offs.get(metric, 1), -1 if is_maximized(comparison) else 1
    unbeaten = front([((x, y), (x_sign * x, y_sign * y)) for _, x, y in placed])
    line = {"width": 1.5, "dash": "dot"}
    x, y = zip(*unbeaten, strict=True)
    figure = go.Figure(go.Scatter(x=x, y=y, name="Pareto front", mode="lines", line=line, hoverinfo="skip"))
    add_points(figure, comparison, placed)
    for side, limit in bound.items():
        line = {"color": BOUND, "dash": "dash", "width": 1.5}
        figure.add_vline(x=limit, line=line, annotation={"text": f"{side} {value_text(limit)}", "xshift": 4, "font": {"color": BOUND}})
    limits = list(bound.values())
    figure.update_xaxes(
        title=escape(with_unit(metric)), range=axis_limits([*(x for _, x, _ in placed), *limits], maximize=x_sign < 0, spreads=20)
    )
    figure.update_yaxes(
        title=escape(with_unit(comparison.objective.metric)),
        range=axis_limits([y for _, _, y in placed], maximize=is_maximized(comparison)),
    )
    return figure
