"""A comparison in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.report.arms import Arm, arms_note
from harness.report.comparison import Comparison
from harness.report.confirmation_table import mean_text, verdict
from harness.report.fitted_table import Column, FittedTable
from harness.report.importances import NONE_FOUND
from harness.report.notes import noise_note, sharing_note, teachers_note
from harness.report.sparkline import sparkline
from harness.report.text import ABSENT, bound_text, count_text, duration_text, metric_text, short_names, value_text
from harness.runs.record import RunRecord

STATE_STYLES = {
    "complete": "",
    "infeasible": "magenta",
    "running": "cyan",
    "waiting": "dim",
    "pruned": "yellow",
    "failed": "red",
    "damaged": "red",
}
_BAR_WIDTH = 40
_CURVE_WIDTH = 8
_CURVE_EXPENDABLE = 0.9
"""Left out after parameters that explain less than a tenth, before the others."""
_CURVE_POINTS = 6
"""A metric with fewer values than this is no curve."""
BEST = "★"
PARETO = "◆"


def render(comparison: Comparison, *, limit: int | None = 20) -> FittedTable:
    """The runs in rank order. Violated constraints are red and marked with !."""
    shown = comparison.runs[:limit]
    return FittedTable(list(_columns(comparison, shown)), "\n".join(_notes(comparison, shown)))


def _notes(comparison: Comparison, shown: list[RunRecord]) -> Iterator[str]:
    """The notes under the table, a line each."""
    if len(shown) < len(comparison.runs):
        yield f"The first {len(shown)} of {len(comparison.runs)} runs."
    yield from (f"{run.name}: {run.result.reason}" for run in comparison.runs if run.state == "damaged")
    marks = {
        f"{BEST} best": comparison.best is not None,
        f"{PARETO} on the Pareto front of {', '.join(comparison.trade_offs)}": any(map(comparison.is_pareto, shown)),
        "! breaks a constraint": any(comparison.violates(run, metric) for run in shown for metric in comparison.constraints),
        "~ within seed noise of the best": any(map(comparison.within_noise, shown)),
    }
    if any(marks.values()):
        yield f"{', '.join(mark for mark, is_used in marks.items() if is_used)}."
    if comparison.confirmed:
        yield f"Over seeds: {'; '.join(verdict(comparison.confirmed))}."
    elif comparison.noise:
        yield noise_note(comparison.noise)
    if comparison.saved:
        yield sharing_note(comparison)
    if comparison.teachers.pools:
        yield teachers_note(comparison.teachers)


def render_importances(comparison: Comparison) -> RenderableType:
    """A bar for the importance of each parameter, or why there is none."""
    found = comparison.importances
    if not found.shares:
        return Text(f"No parameter importances: {NONE_FOUND}, and they are of one study.", style="dim")
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    names = short_names(list(found.shares))
    largest = max(found.shares.values())
    for key, share in found.shares.items():
        table.add_row(
            Text(names[key]), Text(found.text(key), justify="right"), Text("█" * round(_BAR_WIDTH * share / largest), style="cyan")
        )
    return Group(Text(f"Parameter importances ({found.of}; {found.note})", style="bold"), table)


def render_arms(comparison: Comparison, found: list[Arm]) -> RenderableType:
    """A row an arm: its trials, what the best of 1, 2, 4, … of them is expected to be, and its best trial."""
    alike = min(arm.trials for arm in found)
    counts = [2**power for power in range(alike.bit_length()) if 2**power < alike] + ([alike] if alike else [])
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("arm", "trials", *(f"best of {count}" for count in counts), "best trial"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for arm in found:
        expected = [metric_text(arm.expected[count - 1]) for count in counts]
        best = "none in the running" if arm.best is None else f"{arm.best.number}: {metric_text(comparison.value(arm.best))}"
        table.add_row(Text(value_text(arm.value)), str(arm.trials), *expected, best)
    return Group(Text("Arms, by the expected best of equally many trials", style="bold"), table, Text(arms_note(comparison, found)))


def _columns(comparison: Comparison, runs: list[RunRecord]) -> Iterator[Column]:
    yield Column("#", [_rank_cell(comparison, run, rank) for rank, run in enumerate(runs, start=1)])
    if len(comparison.studies) == 1 and all(comparison.is_trial(run) for run in comparison.runs):
        yield Column("trial", [Text(str(run.number)) for run in runs])
    else:
        yield Column("run", [Text(run.name) for run in runs])
    yield Column("state", [Text(state, style=STATE_STYLES[state]) for state in map(comparison.shown_state, runs)], is_text=True)
    params = [comparison.params(run) for run in runs]
    rungs = [run.trial.rung if run.trial else None for run in runs]
    if any(rung is not None for rung in rungs):
        yield Column("rung", [Text("" if rung is None else str(rung)) for rung in rungs], expendable=1.2)
    for key, name in short_names(comparison.columns).items():
        # Less important parameters are left out first.
        expendable = 1 - comparison.importances.shares.get(key, 0.0)
        yield Column(name, [Text(comparison.value_text(key, of_run.get(key, ABSENT))) for of_run in params], expendable=expendable)
    for metric in comparison.metrics:
        # Within a study, a domain's loss and its forgetting differ by a constant: one of them is enough.
        if metric.removesuffix("loss") + "forgetting" not in comparison.metrics:
            bound = bound_text(comparison.constraints.get(metric, {}))
            yield Column(metric, [_metric_cell(comparison, run, metric) for run in runs], bound=bound)
        if comparison.is_objective(metric):
            if any(map(comparison.candidate, runs)):
                yield Column("over_seeds", [_over_seeds(comparison, run) for run in runs], expendable=1.5)
            yield Column("curve", _curves(runs, metric), expendable=_CURVE_EXPENDABLE)
    if comparison.objective is None:
        yield Column("curve", _curves(runs, comparison.metrics[0] if comparison.metrics else "train/loss"), expendable=_CURVE_EXPENDABLE)
    started = [run.result if run.result.attempts else None for run in runs]
    yield Column("tokens", [Text(count_text(r.tokens.reached) if r else ABSENT) for r in started], expendable=2)
    if any(run.result.tokens.shared for run in runs):
        yield Column("shared", [Text(count_text(r.tokens.shared) if r and r.tokens.shared else "") for r in started], expendable=2.1)
        if any(origins := [_origin(comparison, run) for run in runs]):
            yield Column("from", [Text(origin) for origin in origins], expendable=2.2)
    if comparison.teachers.pools:
        # Of all who made its data: what a recipe costs, whoever paid.
        yield Column("teachers", [Text(count_text(r.teachers.all) if r and r.teachers.all else "") for r in started], expendable=1.9)
    yield Column("time", [Text(duration_text(r.seconds) if r else ABSENT) for r in started], expendable=3)


def _rank_cell(comparison: Comparison, run: RunRecord, rank: int) -> Text:
    place = str(rank) if comparison.is_ranked(run) else ""
    if run is comparison.best:
        return Text(f"{place} {BEST}", style="bold green")
    return Text(f"{place} {PARETO if comparison.is_pareto(run) else ' '}", style="dim")


def _origin(comparison: Comparison, run: RunRecord) -> str:
    """The name in this table of the run whose trunk it continued."""
    origin = comparison.origin(run)
    if origin is None:
        return run.result.shared_from or ""
    return str(origin.number) if origin.study == run.study else origin.name


def _curves(runs: list[RunRecord], metric: str) -> list[Text]:
    """The metric over each run, or the training loss if it was evaluated too rarely, on one scale that ignores the first tenth."""
    curves = [_values(run, metric) for run in runs]
    if max(map(len, curves), default=0) < _CURVE_POINTS:
        curves = [_values(run, "train/loss") for run in runs]
    later = [value for values in curves for value in values[len(values) // 10 :]]
    low, high = (min(later), max(later)) if later else (0.0, 0.0)
    return [Text(sparkline(values, low, high, width=_CURVE_WIDTH).ljust(_CURVE_WIDTH), style="cyan") for values in curves]


def _values(run: RunRecord, metric: str) -> list[float]:
    return [row[metric] for row in run.rows if row.get(metric) is not None]


def _over_seeds(comparison: Comparison, run: RunRecord) -> Text:
    candidate = comparison.candidate(run)
    return Text(mean_text(candidate.interval) if candidate else "", style="bold green" if run is comparison.best else "")


def _metric_cell(comparison: Comparison, run: RunRecord, metric: str) -> Text:
    value = comparison.metric(run, metric)
    if comparison.is_objective(metric):
        objective = comparison.value(run)
        if run is comparison.best:
            return Text(metric_text(objective), style="bold green")
        # Where a run stopped early, its last value is no result.
        mark = " ~" if comparison.within_noise(run) else ""
        return Text(metric_text(value), style="dim") if objective is None else Text(metric_text(objective) + mark)
    return Text(f"{metric_text(value)} !", style="red") if comparison.violates(run, metric) else Text(metric_text(value))
