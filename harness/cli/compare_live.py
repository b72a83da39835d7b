"""A live comparison of runs."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.text import Text

from harness.report.comparison import Comparison
from harness.report.table import render
from harness.report.text import metric_text
from harness.report.watch import watch
from harness.runs.directory import is_study
from harness.runs.record import RunRecord
from harness.runs.result import FINAL_STATES

REFRESH_SECONDS = 1.0
REMOTE_REFRESH_SECONDS = 15.0
"""W&B counts requests."""
LINES_AROUND = 12
"""Lines of a screen for the heading and the notes."""


def watch_runs(look: Callable[[], Comparison], console: Console, *, limit: int | None, remote: bool) -> Comparison:
    """Show the comparison while any of its runs is live, or until Ctrl-C; without a terminal, a line for each run that ends.

    look: reads everything again. Returns the last comparison; on a terminal it stays on the screen.
    """

    def look_again() -> tuple[Comparison, bool]:
        seen = look()
        return seen, is_live(seen)

    try:
        return watch(
            look_again,
            console,
            screen=lambda seen: _screen(seen, console, limit),
            last_screen=lambda seen: render(seen, limit=limit),
            lines=lambda seen: {run.name: _line(seen, run) for run in seen.runs if run.state in FINAL_STATES},
            pause_seconds=REMOTE_REFRESH_SECONDS if remote else REFRESH_SECONDS,
        )
    except KeyboardInterrupt:
        return look()


def is_live(comparison: Comparison) -> bool:
    """Whether a run is running, or a study has workers."""
    from harness.search.workers import living_workers

    return any(run.state == "running" for run in comparison.runs) or any(
        is_study(study.directory.path) and living_workers(study.directory) for study in comparison.studies
    )


def _screen(comparison: Comparison, console: Console, limit: int | None) -> RenderableType:
    rows = max(5, console.height - LINES_AROUND)
    states = [run.state for run in comparison.runs]
    counts = " · ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return Group(
        Text(f"{counts}   (Ctrl-C ends the view, not the runs)", style="dim"),
        render(comparison, limit=rows if limit is None else min(limit, rows)),
    )


def _line(comparison: Comparison, run: RunRecord) -> str:
    named = comparison.objective.metric if comparison.objective else ""
    value = f"  {named} {metric_text(comparison.value(run))}" if comparison.value(run) is not None else ""
    best = f"  (best so far: {comparison.best.name})" if comparison.best else ""
    return f"{run.name}: {run.state}{value}{f'  {run.result.reason}' if run.result.reason else ''}{best}"
