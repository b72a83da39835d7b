"""Pictures of the search: what was tried, what came out, what it cost. One function a figure; None where there is nothing to show."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from harness.report.axis import is_numeric, log_ticks, parameter_axis
from harness.report.comparison import Comparison
from harness.report.marks import BEST, FEASIBLE, INFEASIBLE, SINGLES, STOPPED, colour_axis, is_maximized, points, reach
from harness.report.text import short_names, value_text
from harness.runs.record import Objective, RunRecord, StudyRecord

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter


def finished(comparison: Comparison) -> list[tuple[RunRecord, float]]:
    """The complete runs that have an objective, in rank order, with it."""
    values = [(run, comparison.value(run)) for run in comparison.runs if run.state == "complete"]
    return [(run, value) for run, value in values if value is not None]


def history(comparison: Comparison) -> Figure | None:
    """Each trial's objective by its number, and the best so far."""
    import plotly.graph_objects as go

    done = [(run, value) for run, value in finished(comparison) if comparison.is_trial(run)]
    if comparison.objective is None or not done:
        return None
    low, high = reach([value for _, value in done], maximize=is_maximized(comparison))
    figure = go.Figure([_best_so_far(comparison, comparison.objective, study) for study in comparison.studies])
    _add_points(figure, comparison, [(run, run.number or 0, value) for run, value in done])
    inset = 0.03 * (high - low)
    edge = low + inset if is_maximized(comparison) else high - inset
    stopped = [run for run in comparison.runs if comparison.is_trial(run) and run.state in ("pruned", "failed")]
    for state, symbol in (("pruned", "triangle-down-open"), ("failed", "x-thin-open")):
        runs = [run for run in stopped if run.state == state]
        last = [comparison.metric(run, comparison.objective.metric) for run in runs] if state == "pruned" else [None for _ in runs]
        heights = [edge if value is None else min(max(value, low), high) for value in last]
        marker = {"symbol": symbol, "size": 8, "color": STOPPED, "line": {"width": 1.5, "color": STOPPED}}
        if runs:
            places = {"x": [run.number for run in runs], "y": heights}
            figure.add_trace(go.Scatter(**places, name=state, mode="markers", marker=marker, **points(comparison, runs)))
    numbers = [run.number or 0 for run in comparison.runs]
    figure.update_xaxes(title="trial", range=[-0.5 - 0.02 * max(numbers), 0.5 + 1.02 * max(numbers)])
    figure.update_yaxes(title=escape(comparison.objective.metric), range=[low, high])
    return figure


def _best_so_far(comparison: Comparison, objective: Objective, study: StudyRecord) -> Scatter:
    import plotly.graph_objects as go

    numbers: list[int] = []
    best: list[float] = []
    for run in study.runs:
        value = comparison.value(run)
        if comparison.is_ranked(run) and value is not None:
            numbers.append(run.number or 0)
            best.append(value if not best or objective.better(value, best[-1]) else best[-1])
    alone = len(comparison.studies) == 1
    name = "best so far" if alone else f"best of {escape(study.name)}"
    color = None if alone else SINGLES[comparison.studies.index(study) % len(SINGLES)]
    line = {"shape": "hv", "width": 2, "color": color}
    return go.Scatter(x=numbers, y=best, name=name, mode="lines", line=line, hoverinfo="skip")


def _add_points(figure: Figure, comparison: Comparison, placed: list[tuple[RunRecord, Any, Any]]) -> None:
    """Complete runs as points: feasible, infeasible, and the best of all."""
    best = comparison.best
    others = [place for place in placed if place[0] is not best]
    within = [place for place in others if comparison.feasible(place[0]) is not False]
    outside = [place for place in others if comparison.feasible(place[0]) is False]
    size = 8 if len(placed) <= 200 else 5
    name = "feasible" if comparison.constraints else "complete"
    _add_markers(figure, comparison, within, name, {"symbol": "circle", "color": FEASIBLE, "size": size, "opacity": 0.85})
    _add_markers(figure, comparison, outside, "infeasible", {"symbol": "diamond-open", "color": INFEASIBLE, "size": size + 1})
    _add_markers(figure, comparison, [place for place in placed if place[0] is best], "best", {"symbol": "star", "color": BEST, "size": 14})


def _add_markers(
    figure: Figure, comparison: Comparison, placed: list[tuple[RunRecord, Any, Any]], name: str, marker: dict[str, Any]
) -> None:
    import plotly.graph_objects as go

    if placed:
        runs, x, y = zip(*placed, strict=True)
        figure.add_trace(go.Scatter(x=x, y=y, name=name, mode="markers", marker=marker, **points(comparison, runs)))


def importances(comparison: Comparison) -> Figure | None:
    """The share of each parameter in the objective's variance."""
    import plotly.graph_objects as go

    if not comparison.importances:
        return None
    names = short_names(list(comparison.importances))
    shares = list(comparison.importances.values())
    bar = go.Bar(
        x=shares,
        y=[escape(names[key]) for key in comparison.importances],
        orientation="h",
        marker={"color": FEASIBLE},
        text=[f"{share:.0%}" for share in shares],
        textposition="outside",
        cliponaxis=False,
        hoverinfo="skip",
    )
    figure = go.Figure(bar)
    figure.update_xaxes(tickformat=".0%", range=[0, min(1.0, max(shares) * 1.12)], title="share of variance")
    figure.update_yaxes(autorange="reversed", type="category", automargin=True, showgrid=False)
    return figure


def parallel(comparison: Comparison) -> Figure | None:
    """Every complete run as a line through its parameters to its objective."""
    import plotly.graph_objects as go

    done = finished(comparison)
    if comparison.objective is None or len(done) < 2 or not comparison.parameters:
        return None
    names = short_names(comparison.parameters)
    params = [comparison.params(run) for run, _ in done]
    objectives = [value for _, value in done]
    dimensions: list[dict[str, Any]] = []
    for key in comparison.parameters:
        values = [of_run.get(key) for of_run in params]
        if any(value is not None for value in values):
            axis = parameter_axis(comparison.space.get(key, {}), values)
            ticks = {"tickvals": list(axis.ticks), "ticktext": list(axis.ticks.values())}
            dimensions.append({"label": names[key], "values": axis.positions, "range": axis.range, **ticks})
    # Diverged runs end at the edge.
    low, high = reach(objectives, maximize=is_maximized(comparison))
    ends = [min(max(value, low), high) for value in objectives]
    dimensions.append({"label": comparison.objective.metric, "values": ends, "range": [min(ends), max(ends)]})
    # The last line drawn lies on top: the best.
    for dimension in dimensions:
        dimension["values"] = dimension["values"][::-1]
    line = {"color": objectives[::-1], "coloraxis": "coloraxis"}
    return go.Figure(go.Parcoords(dimensions=dimensions, line=line), layout={"coloraxis": colour_axis(comparison, objectives)})


def slice_of(comparison: Comparison, parameter: str) -> Figure | None:
    """The objective against one parameter."""
    import plotly.graph_objects as go

    done = [(run, comparison.params(run).get(parameter), value) for run, value in finished(comparison)]
    given = [value for _, value, _ in done if value is not None]
    if comparison.objective is None or not given:
        return None
    figure = go.Figure()
    if is_numeric(comparison.space.get(parameter, {}), given):
        _add_points(figure, comparison, [place for place in done if place[1] is not None])
        if comparison.is_log(parameter):
            ticks = log_ticks(min(given), max(given))
            figure.update_xaxes(type="log", tickvals=ticks, ticktext=[value_text(tick, log=True) for tick in ticks])
    else:
        _add_points(figure, comparison, [(run, escape(value_text(value)), y) for run, value, y in done])
        order = parameter_axis(comparison.space.get(parameter, {}), [value for _, value, _ in done]).ticks.values()
        figure.update_xaxes(type="category", categoryorder="array", categoryarray=[escape(label) for label in order])
    figure.update_yaxes(
        range=reach([value for _, _, value in done], maximize=is_maximized(comparison)), title=escape(comparison.objective.metric)
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
    front = _front([(x, y) for _, x, y in placed], x_sign=-1 if "min" in bound else 1, y_sign=-1 if is_maximized(comparison) else 1)
    x, y = zip(*front, strict=True)
    figure = go.Figure(go.Scatter(x=x, y=y, name="Pareto front", mode="lines", line={"width": 1.5, "dash": "dot"}, hoverinfo="skip"))
    _add_points(figure, comparison, placed)
    for side, limit in bound.items():
        line = {"color": INFEASIBLE, "dash": "dash", "width": 1.5}
        figure.add_vline(x=limit, line=line, annotation={"text": f"{side} {value_text(limit)}", "xshift": 4, "font": {"color": INFEASIBLE}})
    figure.update_xaxes(title=escape(metric))
    figure.update_yaxes(
        title=escape(comparison.objective.metric), range=reach([y for _, _, y in placed], maximize=is_maximized(comparison))
    )
    return figure


def _front(points_: list[tuple[float, float]], *, x_sign: int, y_sign: int) -> list[tuple[float, float]]:
    front: list[tuple[float, float]] = []
    for x, y in sorted(points_, key=lambda point: (x_sign * point[0], y_sign * point[1])):
        if not front or y_sign * y < y_sign * front[-1][1]:
            front.append((x, y))
    return front
