"""Runs side by side: what the table, the page, the JSON and the CSV of `harness compare` all show."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from harness.report.columns import Space, differing_keys, joint_space, metric_columns, run_params, space_of
from harness.report.importances import parameter_importances
from harness.runs.confirmation import Candidate
from harness.runs.record import Objective, RunRecord, StudyRecord

_ORDER = ("complete", "pruned", "failed", "running", "waiting")


@dataclass(frozen=True)
class Comparison:
    """Studies and single runs in one order. The first study's objective and constraints are the yardstick for all of them."""

    runs: list[RunRecord]
    """Trials by rank: feasible ones by objective, infeasible ones, pruned, failed, running, waiting; then the single runs as given."""
    studies: list[StudyRecord]
    importances: dict[str, float]
    """The share of each parameter in the objective's variance, largest first; empty where several studies (or none) are compared."""
    parameters: list[str]
    """Configuration keys: the studies' spaces; without a study, the keys in which the runs differ."""
    metrics: list[str]
    """Logged names: the objective, the constraints, the other validation losses."""

    @property
    def objective(self) -> Objective | None:
        return self.studies[0].objective if self.studies else None

    @property
    def constraints(self) -> dict[str, dict[str, float]]:
        return self.studies[0].constraints if self.studies else {}

    @cached_property
    def space(self) -> Space:
        return joint_space(self.studies)

    @cached_property
    def _own(self) -> dict[str | None, StudyRecord]:
        return {study.name: study for study in self.studies}

    @property
    def confirmed(self) -> StudyRecord | None:
        """The one study compared, if it has a confirmation."""
        return self.studies[0] if len(self.studies) == 1 and self.studies[0].confirmation else None

    @property
    def winner(self) -> Candidate | None:
        """What the confirmation says of `best`; None where it is not confirmed."""
        return self.confirmed.confirmed if self.confirmed else None

    def candidate(self, run: RunRecord) -> Candidate | None:
        """What the confirmation says of this run, if it is one of its candidates."""
        study = self.confirmed
        return study.confirmation.candidate(run.number) if study and study.confirmation and self.is_trial(run) else None

    def within_noise(self, run: RunRecord) -> bool | None:
        """Whether the run differs from the best by less than seeds alone can do: both were trained once, with the same seed.

        None where the noise of seeds is not known, and where there is nothing to compare.
        """
        noise = self.confirmed.confirmation.noise if self.confirmed and self.confirmed.confirmation else None
        best, value = self.best, self.value(run)
        if noise is None or best is None or run is best or value is None or not self.is_ranked(run):
            return None
        of_best = self.value(best)
        return of_best is not None and abs(value - of_best) < noise.least_difference

    @property
    def best(self) -> RunRecord | None:
        """The confirmed winner; without one, the feasible complete trial with the best objective."""
        return self.runs[0] if self.runs and self.is_ranked(self.runs[0]) else None

    def is_trial(self, run: RunRecord) -> bool:
        """Whether the run is a trial of one of the studies compared."""
        return run.study in self._own

    def is_log(self, parameter: str) -> bool:
        """Whether the parameter was searched on a logarithmic scale, as rates are."""
        return bool(self.space.get(parameter, {}).get("log"))

    def is_ranked(self, run: RunRecord) -> bool:
        """Whether the run competes for the best: a complete trial that meets the constraints."""
        complete = self.is_trial(run) and run.state == "complete"
        return complete and self.value(run) is not None and self.feasible(run) is not False

    def params(self, run: RunRecord) -> dict[str, Any]:
        """The run's values of `parameters`, without those that are not active in it."""
        study = self._own.get(run.study)
        return run_params(run, self.parameters, self.space, space_of(study) if study else {})

    def value(self, run: RunRecord) -> float | None:
        """The run's objective, or its last value of the objective's metric where it was not trained for that objective."""
        study = self._own.get(run.study)
        if self.objective is None or (study and study.objective == self.objective):
            return _finite(run.result.objective)
        return self.metric(run, self.objective.metric)

    def metric(self, run: RunRecord, name: str) -> float | None:
        """The run's last logged value of a metric."""
        return _finite(run.result.metrics.get(name))

    def violates(self, run: RunRecord, metric: str) -> bool:
        """Whether the run's last value of the metric is outside its bound."""
        value, bound = self.metric(run, metric), self.constraints.get(metric, {})
        return value is not None and (value > bound.get("max", math.inf) or value < bound.get("min", -math.inf))

    def feasible(self, run: RunRecord) -> bool | None:
        """Whether the run meets the constraints; None where there are none, or where its metrics do not tell."""
        study = self._own.get(run.study)
        if study and study.constraints == self.constraints and run.result.feasible is not None:
            return run.result.feasible
        if not self.constraints or any(self.metric(run, metric) is None for metric in self.constraints):
            return None
        return not any(self.violates(run, metric) for metric in self.constraints)


def compare(studies: list[StudyRecord], runs: list[RunRecord]) -> Comparison:
    """Put the trials of the studies and the single runs side by side."""
    trials = [run for study in studies for run in study.runs]
    together = Comparison(
        runs=[*trials, *runs],
        studies=studies,
        importances=parameter_importances(studies[0]) if len(studies) == 1 else {},
        parameters=list(joint_space(studies)) if studies else differing_keys(runs),
        metrics=metric_columns(studies, [*trials, *runs]),
    )
    ranked = sorted(trials, key=lambda run: _rank(together, run))
    return Comparison([*ranked, *runs], studies, together.importances, together.parameters, together.metrics)


def _rank(comparison: Comparison, run: RunRecord) -> tuple[Any, ...]:
    value = comparison.value(run)
    sign = -1 if comparison.objective and comparison.objective.direction == "maximize" else 1
    by_value = math.inf if value is None else sign * value
    study = comparison.confirmed
    loses = not (study and study.is_confirmed(run))
    return _ORDER.index(run.state), run.state == "complete" and not comparison.is_ranked(run), loses, by_value, run.number or 0


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON types; numbers that JSON does not have become null."""
    runs = [
        {
            "study": run.study,
            "number": run.number,
            "run": run.name,
            "directory": str(run.directory.path),
            "state": run.state,
            "params": comparison.params(run),
            "objective": comparison.value(run),
            "feasible": comparison.feasible(run),
            "within_noise": comparison.within_noise(run),
            "metrics": run.result.metrics,
            "seconds": run.result.seconds,
            "tokens": asdict(run.result.tokens),
            "attempts": run.result.attempts,
            "step": run.result.step,
            "reason": run.result.reason,
        }
        for run in comparison.runs
    ]
    study = comparison.confirmed
    confirmation = study.confirmation.to_json() if study and study.confirmation else None
    document: dict[str, Any] = _plain({"runs": runs, "importances": comparison.importances, "confirmation": confirmation})
    return document


def to_csv(comparison: Comparison) -> str:
    """One row a run, in rank order, with every metric that any of them logged."""
    logged = {metric for run in comparison.runs for metric in run.result.metrics}
    metrics = list(dict.fromkeys([*comparison.metrics, *sorted(logged)]))
    before = ("study", "number", "run", "state", "feasible", "objective")
    after = ("seconds", "attempts", "step", "reason", "directory")
    tokens = ("trained", "shared", "budgeted")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*before, *comparison.parameters, *metrics, *(f"tokens_{kind}" for kind in tokens), *after])
    for run in to_json(comparison)["runs"]:
        params = [run["params"].get(key) for key in comparison.parameters]
        values = [run["metrics"].get(metric) for metric in metrics]
        used = [run["tokens"][kind] for kind in tokens]
        writer.writerow([*(run[key] for key in before), *params, *values, *used, *(run[key] for key in after)])
    return stream.getvalue()


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return _finite(value)
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value)
