"""A run comparer: a few runs side by side, key by key."""

from __future__ import annotations

from html import escape

from harness.report.comparison import Comparison
from harness.report.text import ABSENT, metric_text, short_names, value_text
from harness.runs.record import RunRecord

WINNER = ' class="winner"'
LIMIT = 8
"""Runs that fit beside each other without scrolling."""


def differences_section(comparison: Comparison) -> str:
    """The configuration keys in which the runs differ, a row each, and their metrics; "" for one run, and for many."""
    runs = comparison.runs
    if not 2 <= len(runs) <= LIMIT or not comparison.columns:
        return ""
    names = short_names([run.name for run in runs])
    head = "".join(f'<th scope="col" title="{escape(run.name)}">{escape(names[run.name])}</th>' for run in runs)
    params = [comparison.params(run) for run in runs]
    rows = [
        _row(key, [value_text(of_run.get(key), log=comparison.is_log(key)) if key in of_run else ABSENT for of_run in params])
        for key in comparison.columns
    ]
    rows += [_metric_row(comparison, runs, metric) for metric in comparison.metrics]
    return (
        '<section id="differences"><h2>Differences</h2><div class="card scroll"><table class="plain beside">'
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _row(name: str, cells: list[str], best: int | None = None) -> str:
    marked = "".join(f"<td{WINNER if place == best else ''}>{escape(cell)}</td>" for place, cell in enumerate(cells))
    return f'<tr><th scope="row"><code>{escape(name)}</code></th>{marked}</tr>'


def _metric_row(comparison: Comparison, runs: list[RunRecord], metric: str) -> str:
    best = runs.index(comparison.best) if comparison.is_objective(metric) and comparison.best else None
    return _row(metric, [metric_text(comparison.metric(run, metric)) for run in runs], best)
