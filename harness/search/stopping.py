"""Early stopping: what a trial's evaluations report to the pruner, and constraints that stay broken."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, assert_never

from harness.config.sweep_schema import StoppingConfig, StudyObjectiveConfig
from harness.runs.constraints import Bound, broken_limit, margins
from harness.runs.directory import RunDirectory
from harness.runs.files import read_yaml
from harness.runs.metrics import Row
from harness.runs.result import read_result
from harness.search.storage.contract import StudyStorage
from harness.search.sweep import Sweep
from harness.search.trial_index import TrialIndex

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy
    from optuna.pruners import BasePruner

BROKEN = 1e3
"""Larger than differences between losses."""


class EarlyStopping:
    """Whether trials of a study that are under way are given up."""

    def __init__(self, sweep: Sweep, optuna: OptunaStudy, index: TrialIndex, storage: StudyStorage) -> None:
        self._sweep, self._optuna, self._index, self._storage = sweep, optuna, index, storage
        # Hyperband proposes by brackets, too: the sampler asks the study for it.
        self._pruner = optuna.pruner = build_pruner(sweep.config.stopping, evaluations=sweep.evaluations)

    def reason(self, number: int, run: RunDirectory) -> str | None:
        """Report the trial's new evaluations to Optuna; why it is to be given up, or None."""
        stopping = self._sweep.config.stopping
        if stopping.name == "none" and stopping.constraint_patience is None:
            return None
        every = read_yaml(run.config)["trainer"]["evaluate_every_steps"]
        seen = evaluations(run.metrics.rows(), every_steps=every, length=read_result(run).tokens.length) if every else {}
        constraints = self._sweep.constraints
        reason = broken_for_good(seen, constraints, stopping.constraint_patience)
        if reason is None and stopping.name != "none":
            reason = self._report(number, judged(seen, self._sweep.config.objective, constraints))
        return reason

    def _report(self, number: int, values: dict[int, float | None]) -> str | None:
        known = self._index.frozen(number).intermediate_values
        if not values.keys() - known.keys():
            return None
        with self._storage.locked():
            for place in sorted(values.keys() - known.keys()):
                frozen = self._index.frozen(number)
                if place in frozen.intermediate_values or (value := values[place]) is None:
                    continue
                self._optuna._storage.set_trial_intermediate_value(frozen._trial_id, place, value)
                if self._pruner.prune(self._optuna, self._index.frozen(number)):
                    return f"{self._sweep.config.stopping.name}: {self._sweep.config.objective.metric} {value:.4g} at evaluation {place}"
        return None


def build_pruner(config: StoppingConfig, *, evaluations: int) -> BasePruner:
    """The Optuna pruner, over evaluations as its steps. evaluations: how many a trial has before its end."""
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some are called experimental
        match config.name:
            case "none":
                return NopPruner()
            case "median":
                return MedianPruner(n_startup_trials=config.startup_trials, n_warmup_steps=config.warmup_evaluations + 1)
            case "successive_halving":
                return SuccessiveHalvingPruner(min_resource=config.first_rung, reduction_factor=config.reduction_factor)
            case "hyperband":
                most = max(evaluations, config.first_rung)
                return HyperbandPruner(min_resource=config.first_rung, max_resource=most, reduction_factor=config.reduction_factor)
            case _:
                assert_never(config.name)


def evaluations(rows: list[Row], *, every_steps: int, length: int) -> dict[int, Row]:
    """The rows of the evaluations before the end of a run, by their ordinal number: the first is 1. length: tokens of the whole run."""
    return {row["step"] // every_steps: row for row in rows if row["step"] and row["step"] % every_steps == 0 and row["tokens"] < length}


def judged(seen: dict[int, Row], objective: StudyObjectiveConfig, constraints: Mapping[str, Bound]) -> dict[int, float | None]:
    """The value that each evaluation reports to the pruner: the objective, or, where constraints are broken, a value worse than any
    objective that grows with the violation. Pruners see one number: they would keep the runs that forget most. None where the objective is
    absent; a constraint that not every evaluation measures counts by its last value, and not before it has one."""
    values: dict[int, float | None] = {}
    known: dict[str, float] = {}
    for number in sorted(seen):
        row = seen[number]
        known |= {metric: row[metric] for metric in constraints if row.get(metric) is not None}
        value: float | None = row.get(objective.metric)
        bounds = {metric: constraints[metric] for metric in known}
        broken = sum(max(0.0, margin) for margin in margins(bounds, known).values())
        if value is not None and broken:
            value += (1 + broken) * (BROKEN if objective.direction == "minimize" else -BROKEN)
        values[number] = value
    return values


def broken_for_good(seen: dict[int, Row], constraints: Mapping[str, Bound], patience: int | None) -> str | None:
    """Why the trial is given up, if it has broken one constraint at each of the latest `patience` evaluations that measured it."""
    if patience is None:
        return None
    for metric, bound in constraints.items():
        latest = [seen[number][metric] for number in sorted(seen) if seen[number].get(metric) is not None][-patience:]
        broken = [broken_limit(bound, value) for value in latest]
        if len(latest) == patience and all(broken):
            return f"{metric} was outside its bound ({broken[-1]}) at {patience} evaluations in a row, last {latest[-1]:.4g}"
    return None
