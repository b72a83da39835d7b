"""Training curves: metrics and learning rates over tokens, a line a run, coloured by its objective."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Any

from harness.config.checks.trainer import planned_steps, trains
from harness.config.errors import InputError
from harness.report.comparison import Comparison
from harness.report.figure_style import BEST, BOUND, INFEASIBLE, SINGLES, STOPPED, axis_limits, colour_axis, shades
from harness.report.text import with_unit
from harness.runs.record import RunRecord

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from harness.config.schema import Config

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
    """A metric over tokens; None where no run has trained any, or none has logged it."""
    lines = list(_lines(comparison, metric))
    if not any(tokens[-1] for _, tokens, _ in lines):
        return None
    figure = _figure(comparison, lines, metric)
    # The first steps are far above everything that matters.
    later = [value for _, _, values in lines for value in values[len(values) // 10 :]]
    limits = comparison.constraints.get(metric, {}).values()
    figure.update_yaxes(range=axis_limits([*later, *limits], spreads=10))
    for limit in limits:
        figure.add_hline(y=limit, line={"color": BOUND, "dash": "dash", "width": 1.5})
    return figure


def rates(comparison: Comparison) -> Figure | None:
    """The learning rate over tokens, as the schedules say it; as it was logged where a configuration is not known."""
    drawn = drawn_runs(comparison)
    logged = {id(run): (run, tokens, values) for run, tokens, values in _lines(comparison, "lr")}
    lines = [line for run in drawn if (line := _scheduled(run) or logged.get(id(run))) is not None]
    peaks = [max(values) for _, _, values in lines]
    if not lines or max(peaks) <= 0:
        return None
    figure = _figure(comparison, lines, "lr")
    figure.update_yaxes(tickformat=".1e")
    if min(peaks) * 10 < max(peaks):
        # Warm-ups and decays come from and go to zero: what is below a hundredth of the lowest peak lies on the axis.
        lowest = min(peak for peak in peaks if peak > 0) / 100
        for trace in figure.data:
            if trace.x[0] is not None:
                trace.y = [max(lowest, value) for value in trace.y]
        figure.update_yaxes(type="log", range=[math.log10(lowest), math.log10(max(peaks) * 1.5)], dtick=1, tickformat=".0e")
    return figure


def _scheduled(run: RunRecord) -> Line | None:
    """The rate of all steps that were planned; None where the configuration is not one of ours, or has no such schedule."""
    from harness.config.schema import Config
    from harness.config.validate import to_section
    from harness.schedule.batch_size import resolve_batch_size
    from harness.schedule.learning_rate import learning_rate, resolve_schedule

    try:
        config = to_section(Config, run.config)
        steps = _steps(run, config)
        if not steps:
            return None
        schedule, rows = resolve_schedule(config, steps), resolve_batch_size(config).rows_before(steps)
    except InputError:
        return None
    # Padding leaves rows partly empty: so many tokens they had.
    done = min(run.result.step, steps)
    tokens_per_row = run.result.tokens.reached / int(rows[done]) if done else config.data.context_length
    corners = {schedule.warmup_steps, schedule.warmup_steps + schedule.cooldown_steps, schedule.decay_start, steps}
    shown = sorted({*range(1, steps + 1, max(1, steps // POINTS)), *(corner for corner in corners if 0 < corner <= steps)})
    # The update number `step` is made when so many tokens were trained.
    return run, [float(rows[step]) * tokens_per_row for step in shown], [learning_rate(schedule, step - 1) for step in shown]


def _steps(run: RunRecord, config: Config) -> int | None:
    """Of the whole run, whether it came so far or not; None where that is not known."""
    if not trains(config.trainer):
        return None
    planned = planned_steps(config.trainer)
    # What padding leaves free, and the end of the data, is known of runs that have ended.
    ended = run.state == "complete" and (planned is None or run.result.step >= planned or config.trainer.max_epochs is not None)
    return run.result.step if ended else planned


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


def _layer(comparison: Comparison, index: int, line: Line) -> tuple[bool, bool, bool, int]:
    run = line[0]
    return run is comparison.best, not comparison.is_trial(run), comparison.feasible(run) is not False, -index


def _line(comparison: Comparison, run: RunRecord, index: int, shade: float | None) -> dict[str, Any]:
    """The best and single runs are emphasised; the page colours the others by their shade."""
    if run is comparison.best:
        return {"color": BEST, "width": 3}
    if not comparison.is_trial(run):
        return {"color": SINGLES[index % len(SINGLES)], "width": 2, "dash": "dash" if comparison.studies else "solid"}
    if comparison.feasible(run) is False:
        return {"color": INFEASIBLE, "width": 1.2, "dash": "dot"}
    return {"color": STOPPED if shade is None else None, "width": 1.4}
