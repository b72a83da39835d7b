"""A comparison of runs: what the table, the page, the JSON and the CSV of `harness compare` show."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from harness.report.columns import Space, joint_space, metric_columns, parameter_columns, run_params, space_of, varying
from harness.report.importances import Importances, parameter_importances
from harness.report.seed_noise import SeedNoise, noise_of_confirmation, noise_of_repeats
from harness.report.text import digits_of, value_text
from harness.runs.confirmation import Candidate
from harness.runs.constraints import holds
from harness.runs.pareto import front
from harness.runs.record import Objective, RunRecord, StudyRecord
from harness.runs.result import State, TeacherLedger

STATES: tuple[State, ...] = ("complete", "pruned", "failed", "running", "waiting", "damaged")
SHOWN_STATES = ("complete", "infeasible", *STATES[1:])
"""What people read, see `Comparison.shown_state`."""


@dataclass(frozen=True)
class Comparison:
    """Studies and single runs in one order, ranked by the first study's objective and constraints."""

    runs: list[RunRecord]
    """Trials by rank: feasible ones by objective, infeasible ones, pruned, failed, running, waiting; then the single runs."""
    studies: list[StudyRecord]
    importances: Importances
    """Of the parameters of the one study that is compared; empty where there are several, or none."""
    parameters: list[str]
    """Configuration keys: the studies' spaces, and what else the runs differ in."""
    metrics: list[str]
    """Logged names: the objective, the constraints, the other validation losses."""
    asked: Objective | None = None
    """The objective that the user ranks by; None: the first study's."""
    show_all: bool = False
    """Whether the table shows parameters that are the same in all runs."""

    @property
    def objective(self) -> Objective | None:
        if self.asked is not None:
            return self.asked
        return self.studies[0].objective if self.studies else None

    def is_objective(self, metric: str) -> bool:
        return self.objective is not None and metric == self.objective.metric

    @property
    def objectives(self) -> list[Objective]:
        """Several where the first study has several."""
        if self.asked is None and self.studies:
            return self.studies[0].objectives
        return [self.objective] if self.objective else []

    @property
    def constraints(self) -> dict[str, dict[str, float]]:
        return self.studies[0].constraints if self.studies else {}

    @cached_property
    def space(self) -> Space:
        return joint_space(self.studies)

    @cached_property
    def columns(self) -> list[str]:
        """The parameters that are shown: those in which the runs differ, unless all are asked for."""
        return self.parameters if self.show_all else varying(self.parameters, [self.params(run) for run in self.runs])

    @property
    def by_importance(self) -> list[str]:
        """The parameters that are shown, those that matter most first."""
        return [key for key in dict.fromkeys([*self.importances.shares, *self.columns]) if key in self.columns]

    @cached_property
    def _own(self) -> dict[str | None, StudyRecord]:
        return {study.name: study for study in self.studies}

    @property
    def confirmed(self) -> StudyRecord | None:
        """The one study compared, if it has a confirmation."""
        return self.studies[0] if len(self.studies) == 1 and self.studies[0].confirmation else None

    @property
    def winner(self) -> Candidate | None:
        """The confirmation of `best`; None where it is not confirmed."""
        return self.confirmed.confirmed if self.confirmed else None

    def candidate(self, run: RunRecord) -> Candidate | None:
        """The run as a candidate of its study's confirmation; None where it is none."""
        study = self._own.get(run.study)
        return study.confirmation.candidate(run.number) if study and study.confirmation else None

    @cached_property
    def noise(self) -> SeedNoise | None:
        """Seed noise in the objective: from a confirmation of one of the studies, or from single runs that repeat each other."""
        measured = [noise_of_confirmation(study) for study in self.studies if study.objective == self.objective]
        found = next((noise for noise in measured if noise), None)
        if found is None and self.objective is not None:
            found = noise_of_repeats([run for run in self.runs if not self.is_trial(run)], self.objective.metric)
        return found

    def within_noise(self, run: RunRecord) -> bool | None:
        """Whether the run differs from the best by less than seed noise; None if unknown, and for runs that are not ranked."""
        best, value = self.best, self.value(run)
        if self.noise is None or best is None or run is best or value is None or not self.is_ranked(run) or not self.has_full_length(run):
            return None
        of_best = self.value(best)
        return of_best is not None and abs(value - of_best) < self.noise.least_difference

    @property
    def best(self) -> RunRecord | None:
        """The confirmed winner; without one, the feasible complete trial with the best objective."""
        return self.runs[0] if self.runs and self.is_ranked(self.runs[0]) else None

    @cached_property
    def pareto(self) -> list[RunRecord]:
        """The Pareto front over `trade_offs`: complete runs of full length, by the first objective. Empty with one objective alone."""
        axes = self.trade_offs
        complete = [run for run in self.runs if run.state == "complete" and self.has_full_length(run)]
        placed = [(run, costs) for run in complete if (costs := self._costs(run, axes)) is not None]
        return front(placed) if len(axes) > 1 else []

    @cached_property
    def trade_offs(self) -> dict[str, int]:
        """The objectives and the constrained metrics: {metric: 1 if lower is better, else -1}."""
        if self.objective is None:
            return {}
        signs = {metric: -1 if "min" in bound else 1 for metric, bound in self.constraints.items()}
        return {**{objective.metric: objective.sign for objective in self.objectives}, **signs}

    def _costs(self, run: RunRecord, axes: dict[str, int]) -> tuple[float, ...] | None:
        values = [self.value(run) if self.is_objective(metric) else self.metric(run, metric) for metric in axes]
        known = [value for value in values if value is not None]
        return tuple(sign * value for sign, value in zip(axes.values(), known, strict=True)) if len(known) == len(axes) else None

    @cached_property
    def _on_front(self) -> set[int]:
        return {id(run) for run in self.pareto}

    def is_pareto(self, run: RunRecord) -> bool:
        """Whether the run is on the Pareto front."""
        return id(run) in self._on_front

    @cached_property
    def _places(self) -> dict[int, int]:
        return {id(run): place for place, run in enumerate(self.runs)}

    def place(self, run: RunRecord) -> int:
        """The run's index in `runs`, which identifies it in the page."""
        return self._places[id(run)]

    def is_trial(self, run: RunRecord) -> bool:
        """Whether the run is a trial of one of the studies compared."""
        return run.study in self._own

    def is_log(self, parameter: str) -> bool:
        """Whether the parameter was searched on a logarithmic scale, as rates are."""
        return bool(self.space.get(parameter, {}).get("log"))

    def value_text(self, parameter: str, value: Any) -> str:
        """A parameter's value, with the digits that tell its values apart."""
        return value_text(value, log=self.is_log(parameter), digits=self._digits[parameter])

    @cached_property
    def _digits(self) -> dict[str, int]:
        domains = {key: self.space.get(key) or {"choices": [self.params(run).get(key) for run in self.runs]} for key in self.parameters}
        return {key: digits_of(domain) for key, domain in domains.items()}

    def is_ranked(self, run: RunRecord) -> bool:
        """Whether the run competes for the best: it is complete and meets the constraints, and is a trial where studies are compared."""
        competes = self.is_trial(run) or not self.studies
        return competes and run.state == "complete" and self.value(run) is not None and self.feasible(run) is not False

    def has_full_length(self, run: RunRecord) -> bool:
        """False for the shorter runs of a trunk search, whose objectives do not compare with those of whole ones."""
        study = self._own.get(run.study)
        return study is None or study.has_full_length(run)

    def params(self, run: RunRecord) -> dict[str, Any]:
        """The run's values of `parameters` that are active in it."""
        known = self._params.get(id(run))
        if known is None:
            study = self._own.get(run.study)
            known = self._params[id(run)] = run_params(run, self.parameters, self.space, space_of(study) if study else {})
        return known

    _params: dict[int, dict[str, Any]] = field(default_factory=dict, repr=False, compare=False)

    def value(self, run: RunRecord) -> float | None:
        """The run's objective; of a run with another objective or none, the last value of the metric."""
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
        return value is not None and not holds(bound, value)

    def feasible(self, run: RunRecord) -> bool | None:
        """Whether the run meets the constraints; None where there are none, or where a metric is missing."""
        study = self._own.get(run.study)
        if study and study.constraints == self.constraints and (known := study.is_feasible(run)) is not None:
            return known
        if not self.constraints or any(self.metric(run, metric) is None for metric in self.constraints):
            return None
        return not any(self.violates(run, metric) for metric in self.constraints)

    def shown_state(self, run: RunRecord) -> str:
        """As `RunRecord.standing`, by the constraints that are compared."""
        return "infeasible" if run.state == "complete" and self.feasible(run) is False else run.state

    @cached_property
    def saved(self) -> int:
        """Tokens that runs share with trunks, and did not train."""
        return sum(run.result.tokens.shared for run in self.runs)

    @cached_property
    def teachers(self) -> TeacherLedger:
        """What teachers who made the data of the runs cost."""
        return TeacherLedger.of(run.result for run in self.runs)

    def origin(self, run: RunRecord) -> RunRecord | None:
        """The run whose trunk this one continued; None if it is not compared."""
        if run.result.shared_from is not None:
            return self._by_name.get(run.result.shared_from)
        if run.trial is not None and run.trial.parent is not None:
            return self._by_number.get((run.study, run.trial.parent))
        return None

    @cached_property
    def _by_name(self) -> dict[str, RunRecord]:
        return {run.name: run for run in self.runs}

    @cached_property
    def _by_number(self) -> dict[tuple[str | None, int | None], RunRecord]:
        return {(run.study, run.number): run for run in self.runs if run.number is not None}


def compare(studies: list[StudyRecord], runs: list[RunRecord], *, objective: Objective | None = None, show_all: bool = False) -> Comparison:
    """Compare the trials of the studies and the single runs.

    objective: what to rank by, instead of the first study's. show_all: whether to show parameters that are the same in all runs.
    """
    trials = [run for study in studies for run in study.runs]
    by_own_objective = len(studies) == 1 and objective in (None, studies[0].objective)
    asked = [objective.metric] if objective else []
    together = Comparison(
        runs=[*trials, *runs],
        studies=studies,
        importances=parameter_importances(studies[0]) if by_own_objective else Importances(),
        parameters=parameter_columns(studies, runs),
        metrics=list(dict.fromkeys([*asked, *metric_columns(studies, [*trials, *runs])])),
        asked=objective,
        show_all=show_all,
    )
    return replace(together, runs=list(_in_order(together, trials, runs)))


def _in_order(together: Comparison, trials: list[RunRecord], runs: list[RunRecord]) -> Iterator[RunRecord]:
    yield from sorted(trials, key=lambda run: _rank(together, run))
    # Without an objective single runs stay as they were given.
    yield from sorted(runs, key=lambda run: _rank(together, run)) if together.objective and not trials else runs


def _rank(comparison: Comparison, run: RunRecord) -> tuple[Any, ...]:
    value = comparison.value(run)
    by_value = math.inf if value is None else (comparison.objective.sign if comparison.objective else 1) * value
    study = comparison.confirmed
    loses = not (study and study.is_confirmed(run))
    # Of a trunk search, runs of full length come before shorter ones.
    short = -((run.trial and run.trial.rung) or 0)
    return STATES.index(run.state), run.state == "complete" and not comparison.is_ranked(run), loses, short, by_value, run.number or 0


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
