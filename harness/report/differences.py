"""A run comparer: a few runs side by side, key by key."""

from __future__ import annotations

from html import escape

from harness.report.comparison import Comparison
from harness.report.text import ABSENT, bound_text, metric_text, short_names
from harness.runs.record import RunRecord

LIMIT = 8
"""Runs that fit beside each other without scrolling."""


def differences_section(comparison: Comparison) -> str:
    """The configuration keys in which the runs differ, a row each, and their metrics; "" for one run, and for many."""
    runs = comparison.runs
    if not 2 <= len(runs) <= LIMIT or not comparison.columns:
        return ""
    names = short_names([run.name for run in runs])
    head = "".join(f'<th scope="col" title="{escape(run.name)}">{escape(names[run.name])}{_standing(comparison, run)}</th>' for run in runs)
    params = [comparison.params(run) for run in runs]
    rows = [_row(key, [comparison.value_text(key, of_run.get(key, ABSENT)) for of_run in params]) for key in comparison.columns]
    rows += [_metric_row(comparison, runs, metric) for metric in comparison.metrics]
    return (
        '<section id="differences"><h2>Differences</h2><div class="card scroll"><table class="plain beside">'
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _standing(comparison: Comparison, run: RunRecord) -> str:
    """Of what is not simply complete: it is beside the best, and may look better."""
    state = comparison.shown_state(run)
    return f" ({state})" if state != "complete" else ""


def _row(name: str, cells: list[str], classes: dict[int, str] | None = None) -> str:
    """classes: by place, of single cells."""
    marked = "".join(
        f'<td class="{(classes or {})[place]}">{escape(cell)}</td>' if place in (classes or {}) else f"<td>{escape(cell)}</td>"
        for place, cell in enumerate(cells)
    )
    return f'<tr><th scope="row"><code>{escape(name)}</code></th>{marked}</tr>'


def _metric_row(comparison: Comparison, runs: list[RunRecord], metric: str) -> str:
    classes = {place: "violated" for place, run in enumerate(runs) if comparison.violates(run, metric)}
    if comparison.is_objective(metric) and comparison.best:
        classes[runs.index(comparison.best)] = "winner"
    name = f"{metric} {bound_text(comparison.constraints.get(metric, {}))}".strip()
    return _row(name, [metric_text(comparison.metric(run, metric)) for run in runs], classes)
