"""Optimisation history: each trial and the best so far, over trials, tokens and device time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING

from harness.report.comparison import Comparison
from harness.report.figure_style import SINGLES, STOPPED, axis_limits, is_maximized, points
from harness.report.figures import add_best, add_markers, add_others
from harness.report.text import metric_text, with_unit
from harness.runs.record import Objective, RunRecord, StudyRecord

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

Places = dict[int, float]
"""By id(run): what the search had cost when the run ended."""


def histories(comparison: Comparison) -> dict[str, Figure]:
    """A history for each axis, by its name; {} before a trial is complete."""
    done = complete_trials(comparison)
    if comparison.objective is None or not done:
        return {}
    numbers = {id(run): float(run.number or 0) for run in comparison.runs if comparison.is_trial(run)}
    tokens: Places = {}
    hours: Places = {}
    for study in comparison.studies:
        _accumulate(tokens, study.runs, lambda run: run.result.tokens.spent)
        _accumulate(hours, study.runs, lambda run: run.device_hours)
    unit = hour_unit(comparison)
    views = {
        "trials": _history(comparison, comparison.objective, done, numbers, "trial"),
        "tokens": _history(comparison, comparison.objective, done, tokens, "tokens trained by the search so far"),
    }
    if max(hours.values()) > 0:
        views[unit] = _history(comparison, comparison.objective, done, hours, f"{unit} of the search so far")
    return views


def complete_trials(comparison: Comparison) -> list[tuple[RunRecord, float]]:
    """Of every length, with their objectives, in rank order."""
    values = [(run, comparison.value(run)) for run in comparison.runs if comparison.is_trial(run) and run.state == "complete"]
    return [(run, value) for run, value in values if value is not None]


def hour_unit(comparison: Comparison) -> str:
    """The name of a device-hour: GPU-hours where any run had GPUs."""
    return "GPU-hours" if any(run.result.hardware.get("gpus") for run in comparison.runs) else "device-hours"


def ended_order(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs of a study by the time they ended; by number if that is unknown."""
    ends = {id(run): run.trial.spans[-1][1] if run.trial and run.trial.spans else math.nan for run in runs}
    if any(math.isnan(end) for run in runs if run.state == "complete" for end in [ends[id(run)]]):
        return sorted(runs, key=lambda run: run.number or 0)
    return sorted(runs, key=lambda run: (math.isnan(ends[id(run)]), ends[id(run)], run.number or 0))


def _accumulate(places: Places, runs: Sequence[RunRecord], cost: Callable[[RunRecord], float]) -> None:
    total = 0.0
    for run in ended_order(runs):
        total += cost(run)
        places[id(run)] = total


def _history(comparison: Comparison, objective: Objective, done: list[tuple[RunRecord, float]], places: Places, title: str) -> Figure:
    import plotly.graph_objects as go

    low, high = axis_limits([value for _, value in done], maximize=is_maximized(comparison))
    figure = go.Figure([_best_so_far(comparison, objective, study, places) for study in comparison.studies])
    placed = [(run, places[id(run)], value) for run, value in done]
    add_others(figure, comparison, [place for place in placed if comparison.has_full_length(place[0])])
    shorter = [place for place in placed if not comparison.has_full_length(place[0]) and place[0] is not comparison.best]
    add_markers(figure, comparison, shorter, "shorter run", {"symbol": "circle-open", "color": STOPPED, "size": 6})
    inset = 0.03 * (high - low)
    edge = low + inset if is_maximized(comparison) else high - inset
    stopped = [run for run in comparison.runs if comparison.is_trial(run) and run.state in ("pruned", "failed")]
    for state, symbol in (("pruned", "triangle-down-open"), ("failed", "x-thin-open")):
        runs = [run for run in stopped if run.state == state]
        last = [comparison.metric(run, objective.metric) for run in runs] if state == "pruned" else [None for _ in runs]
        heights = [edge if value is None else min(max(value, low), high) for value in last]
        marker = {"symbol": symbol, "size": 7, "color": STOPPED, "line": {"width": 1.5, "color": STOPPED}, "opacity": 0.8}
        if runs:
            at = {"x": [places[id(run)] for run in runs], "y": heights}
            figure.add_trace(go.Scatter(**at, name=state, mode="markers", marker=marker, **points(comparison, runs)))
    add_best(figure, comparison, placed)
    _add_noise(figure, comparison)
    most = max(places.values())
    figure.update_xaxes(
        title=title, range=[-0.02 * most - (0.5 if title == "trial" else 0), 1.02 * most + (0.5 if title == "trial" else 0)]
    )
    figure.update_yaxes(title=escape(with_unit(objective.metric)), range=[low, high])
    return figure


def _add_noise(figure: Figure, comparison: Comparison) -> None:
    """The band of seed noise around the best."""
    value = comparison.value(comparison.best) if comparison.best else None
    if comparison.noise is None or value is None:
        return
    worse = value + (-1 if is_maximized(comparison) else 1) * comparison.noise.least_difference
    band = {"fillcolor": STOPPED, "opacity": 0.16, "line": {"width": 0}, "layer": "below"}
    words = f"seed noise: {metric_text(comparison.noise.least_difference)}"
    figure.add_hrect(y0=value, y1=worse, annotation={"text": words, "xanchor": "left", "x": 0, "font": {"color": STOPPED}}, **band)


def _best_so_far(comparison: Comparison, objective: Objective, study: StudyRecord, places: Places) -> Scatter:
    import plotly.graph_objects as go

    x: list[float] = []
    best: list[float] = []
    for run in sorted(study.runs, key=lambda run: places[id(run)]):
        value = comparison.value(run)
        if comparison.is_ranked(run) and comparison.has_full_length(run) and value is not None:
            x.append(places[id(run)])
            best.append(value if not best or objective.better(value, best[-1]) else best[-1])
    if x:
        x.append(max(places[id(run)] for run in study.runs))
        best.append(best[-1])
    alone = len(comparison.studies) == 1
    name = "best so far" if alone else f"best of {escape(study.name)}"
    color = None if alone else SINGLES[comparison.studies.index(study) % len(SINGLES)]
    line = {"shape": "hv", "width": 2, "color": color}
    return go.Scatter(x=x, y=best, name=name, mode="lines", line=line, hoverinfo="skip")
