"""The W&B summary of a run: flat keys to sort and filter by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.config.documents import typed
from harness.evaluation.kinds import higher_is_better, metric_of
from harness.runs.directory import RunDirectory
from harness.runs.files import read_yaml
from harness.runs.metrics import Row
from harness.runs.record import Objective
from harness.runs.result import Result, State
from harness.runs.trial import Trial

Summary = dict[str, float | str]


def objective_of(run: RunDirectory) -> Objective | None:
    """The first objective of the run's study; None for a single run. Raises OSError and DamagedError."""
    if run.study is None:
        return None
    return typed(_Sweep, read_yaml(run.study.sweep), run.study.sweep).objective


@dataclass
class _Sweep:
    """What is read here of a sweep.yaml."""

    objective: Objective


def summary_of(
    result: Result, rows: list[Row], objective: Objective | None, *, trial: Trial | None = None, state: State | None = None
) -> Summary:
    """Of a run, from its own files.

    objective, feasible; for every evaluated metric best/<metric>, the best value that was logged; best/val_loss, of the objective's metric
    if it is a loss, else of the first domain; forgetting, of the domain that forgot most, if any did; tokens trained, shared and
    budgeted, and read where nothing is trained; seconds, step, attempts, state; where there are any, the reason, whose trunk it went on
    from, and its rung and parent.
    state: where the result does not say it yet.
    """
    summary: Summary = {**result.metrics}
    state = state or result.state
    value = result.metrics.get(objective.metric) if objective and result.objective is None else result.objective
    if value is not None and state == "complete":
        summary["objective"] = value
    best = {name: _best(name, rows, objective) for name in dict.fromkeys(key for row in rows for key in row) if metric_of(name)}
    summary.update({f"best/{name}": value for name, value in best.items()})
    losses = [name for name in best if name.endswith("/loss")]
    if losses:
        summary["best/val_loss"] = best[objective.metric if objective and objective.metric in losses else losses[0]]
    forgotten = [value for name, value in result.metrics.items() if name.endswith("/forgetting")]
    if forgotten:
        summary["forgetting"] = max(0.0, *forgotten)
    if result.feasible is not None:
        summary["feasible"] = result.feasible
    summary |= {
        "tokens": result.tokens.trained,
        "tokens_shared": result.tokens.shared,
        "tokens_budgeted": result.tokens.budgeted,
        "seconds": result.seconds,
        "step": result.step,
        "attempts": result.attempts,
        "state": state,
    }
    if result.tokens.read:
        summary["tokens_read"] = result.tokens.read
    place = {"rung": trial.rung, "parent": trial.parent} if trial else {}
    more = {"reason": result.reason, "shared_from": result.shared_from, **place}
    summary |= {key: value for key, value in more.items() if value is not None}
    return summary


def _best(name: str, rows: list[Row], objective: Objective | None) -> float:
    values: list[Any] = [row[name] for row in rows if row.get(name) is not None]
    if objective is not None and name == objective.metric:
        return float(max(values) if objective.direction == "maximize" else min(values))
    return float(max(values) if higher_is_better(name) else min(values))
