"""The live view of a study: trials under way with their progress, the best so far, the budget."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from harness.config.literal_console import LiteralConsole
from harness.report.confirmation_table import answer
from harness.report.fitted_table import Column, FittedTable
from harness.report.table import STATE_STYLES
from harness.report.text import ABSENT, bound_text, count_text, duration_text, metric_text, short_names, value_text
from harness.report.watch import watch
from harness.runs.constraints import broken, holds
from harness.runs.directory import StudyDirectory
from harness.runs.record import RunRecord, StudyRecord
from harness.runs.result import FINAL_STATES
from harness.search.status import Status, read_status

REFRESH_SECONDS = 0.5
BAR_COLUMNS = 10
REASON_COLUMNS = 20
"""As wide as the progress of the others; `harness status --json` has all of it."""


def follow(
    directory: StudyDirectory, tend: Callable[[], int], *, console: Console | None = None, notes: Callable[[], list[str]] = list
) -> Status:
    """Show the study until `tend`, called at every refresh, returns 0 workers; without a terminal, a line a trial.

    notes: lines below it, called at every refresh.
    """
    console = console or LiteralConsole()

    def look() -> tuple[tuple[Status, list[str]], bool]:
        is_live = tend() > 0
        return (read_status(directory), notes()), is_live

    status, _ = watch(
        look,
        console,
        screen=lambda seen: render(seen[0], notes=seen[1]),
        lines=lambda seen: {**_lines(seen[0]), **{note: note for note in seen[1]}},
        pause_seconds=REFRESH_SECONDS,
        already=_lines(read_status(directory)),
    )
    return status


def _lines(status: Status) -> dict[str, str]:
    """A line for each run that has ended."""
    over_seeds = {run.name: _fresh_line(run, status) for run in status.study.paid_for if run.state in FINAL_STATES}
    return {**{run.name: _line(run, status) for run in status.study.runs if run.state in FINAL_STATES}, **over_seeds}


def _fresh_line(run: RunRecord, status: Status) -> str:
    """Of a run over a fresh seed, that the study's budget pays for."""
    assert status.study.confirmation is not None, "it is one of its runs"
    planned = status.study.confirmation.plan.runs[run.number or 0]
    value = "" if run.result.objective is None else f"  {status.study.objective.metric} {run.result.objective:.4f}"
    limits = f"  {', '.join(broken(status.study.constraints, run.result.metrics))}" if run.standing == "infeasible" else ""
    reason = f"  {run.result.reason}" if run.result.reason else ""
    return f"trial {planned['candidate']} with seed {planned['seed']}: {run.standing}{value}{limits}{reason}"


def _line(run: RunRecord, status: Status) -> str:
    names = short_names(list(run.params))
    params = "  ".join(f"{names[key]}={value_text(value)}" for key, value in run.params.items())
    value = "" if run.result.objective is None else f"  {status.study.objective.metric} {run.result.objective:.4f}"
    broken = f"  {', '.join(status.study.breaks(run))}" if run.standing == "infeasible" else ""
    reason = f"  {run.result.reason}" if run.result.reason else ""
    # Which seed does best says nothing about a configuration.
    best = f"  (best so far: {status.best.number})" if status.best and status.study.confirms is None else ""
    return f"trial {run.number}: {run.standing}{value}{broken}{reason}  {params}{best}"


def render(status: Status, *, limit: int | None = 12, notes: Sequence[str] = ()) -> RenderableType:
    """The study as a table. limit: at most this many trials, those under way and the latest first. notes: lines below it."""
    damaged = [Text(f"trial {run.number}: {run.result.reason}", style="red") for run in status.study.runs if run.state == "damaged"]
    return Group(_header(status), _trials(status, limit), _best(status), *damaged, *(Text(line, style=_note_style(line)) for line in notes))


def _note_style(line: str) -> str:
    return "red" if " will not start: " in line else "dim"


def _header(status: Status) -> Text:
    """Objective and constraints; then progress."""
    text = Text(f"{status.study.name}", style="bold")
    text.append(f"  {status.study.objective.direction} {status.study.objective.metric}", style="default")
    for metric, bound in status.study.constraints.items():
        text.append(f"  {metric} {bound_text(bound)}", style="default")
    text.append("\n")
    for state, count in status.standings().items():
        text.append(f"{count} {state}  ", style=STATE_STYLES[state])
    for unit, account in status.budget.to_json().items():
        reserved = f" (+ {count_text(account['reserved'])})" if account["reserved"] else ""
        text.append(f"{unit} {count_text(account['used'])}{reserved} of {count_text(account['limit'])}  ", style="dim")
    if status.teachers.pools:
        text.append(f"teachers' tokens {count_text(status.teachers.spent)}  ", style="dim")
    if status.study.paid_for:
        ended = sum(run.state in FINAL_STATES for run in status.study.paid_for)
        text.append(f"{ended} of {len(status.study.paid_for)} runs over fresh seeds  ", style="dim")
    text.append(f"{len(status.workers)} worker{'' if len(status.workers) == 1 else 's'}", style="dim")
    hours = status.budget.gpu_hours
    if hours.limit is None and _on_jobs(status):
        text.append(f"  {hours.used:.2f} GPU-hours", style="dim")
    if status.estimated_end is not None:
        left = max(0.0, status.estimated_end - status.budget.now)
        text.append(f"  done in about {duration_text(left)}", style="dim")
    return text


def _trials(status: Status, limit: int | None) -> FittedTable:
    """Parameters that do not fit the terminal are left out, the last ones of the space first, never a state or a result."""
    shown = sorted(status.study.runs, key=lambda run: (run.state != "running", -(run.number or 0)))[:limit]
    more = len(status.study.runs) - len(shown)
    caption = f"{more} more; `harness compare {status.study.name}` ranks all" if limit is not None and more else ""
    return FittedTable(list(_columns(status, shown)) if shown else [], caption)


def _columns(status: Status, shown: list[RunRecord]) -> Iterator[Column]:
    space: dict[str, Any] = status.study.sweep["space"]
    names = short_names(list(space))
    metric = status.study.objective.metric
    yield Column("trial", [Text(str(run.number)) for run in shown])
    yield Column("state", [Text(run.standing, style=STATE_STYLES[run.standing]) for run in shown], is_text=True)
    yield Column("progress", [_progress(run) for run in shown], expendable=0.5, is_text=True)
    if _on_jobs(status):
        yield Column("job", [_job(run) for run in shown], expendable=3, is_text=True)
    for place, key in enumerate(space):
        log = bool(space[key].get("log"))
        cells = [Text(value_text(run.params[key], log=log) if key in run.params else ABSENT) for run in shown]
        yield Column(names[key], cells, expendable=1 + place / len(space))
    best = [status.best is not None and run.number == status.best.number for run in shown]
    yield Column(
        metric.removeprefix("val/"),
        [Text(_metric(run, metric), style="bold green" if is_best else "") for run, is_best in zip(shown, best, strict=True)],
    )
    for constraint in status.study.constraints:
        yield Column(constraint.removeprefix("val/"), [_constraint(status.study, run, constraint) for run in shown])


def _constraint(study: StudyRecord, run: RunRecord, metric: str) -> Text:
    """Marked where the trial breaks this constraint, since colours do not reach a file."""
    value = _metric(run, metric)
    is_broken = value and metric in run.result.metrics and not holds(study.constraints[metric], run.result.metrics[metric])
    return Text(f"{value} !", style="red") if is_broken else Text(value)


def _on_jobs(status: Status) -> bool:
    """Whether any trial was claimed by a Slurm job."""
    return any(run.trial and any(claim.place.job for claim in run.trial.claims) for run in status.study.runs)


def _job(run: RunRecord) -> Text:
    """The job and node of the last attempt, and how often the job had been restarted."""
    if run.trial is None or not run.trial.claims:
        return Text("")
    place = run.trial.claims[-1].place
    again = f" (restart {place.restart})" if place.restart else ""
    return Text(f"{place.job} {place.node}{again}" if place.job else place.node, style="dim")


def _metric(run: RunRecord, name: str) -> str:
    value = run.result.metrics.get(name)
    return metric_text(value) if run.state in FINAL_STATES else ""


def _progress(run: RunRecord) -> Text:
    if run.state in ("failed", "damaged"):
        return Text(textwrap.shorten(run.result.reason or "", REASON_COLUMNS, placeholder=" …"), style="red")
    if run.state in FINAL_STATES:
        return Text(duration_text(run.result.seconds), style="dim")
    loss = (run.directory.metrics.last() or {}).get("train/loss")
    done = round(BAR_COLUMNS * progress_share(run))
    return Text.assemble(("━" * done, "cyan"), ("─" * (BAR_COLUMNS - done), "dim"), "" if loss is None else f" loss {loss:.2f}")


def progress_share(run: RunRecord) -> float:
    """How much of its length the trial's rows have reached, from 0 to 1."""
    reached = (run.directory.metrics.last() or {}).get("tokens", 0)
    # Before the first attempt has its plan, what is reserved is the best guess.
    length = run.result.tokens.length or (run.trial.tokens if run.trial else 0)
    return min(1.0, reached / length) if length else 0.0


def _best(status: Status) -> Text:
    best = status.best
    if best is None:
        nearest = status.study.nearest
        if nearest is None:
            return Text("no complete trial yet", style="dim")
        broken_by = ", ".join(status.study.breaks(nearest))
        is_over = status.phase == "ended"
        lines = [f"no complete trial meets the constraints{'' if is_over else ' yet'}; nearest: trial {nearest.number}, {broken_by}"]
        return Text("\n".join([*lines, *(answer(status.study) if is_over and status.study.confirmation else [])]), style="dim")
    names = short_names(list(best.params))
    params = "  ".join(f"{names[key]}={value_text(value)}" for key, value in best.params.items())
    study = status.study
    if study.confirms is not None:
        return Text(f"the best of {study.confirms} over seeds: `harness confirm {study.confirms}` says what they come to", style="dim")
    found = list(answer(study)) if study.confirmed or (study.confirmation and status.phase == "ended") else []
    if not study.confirmed:
        found.append(f"best so far: trial {best.number}, {study.objective.metric} {best.result.objective:.4f}, not confirmed")
    return Text("\n".join([*found, f"  {params}"]), style="bold green")
