"""Runs and studies as tables and pictures read them: from their own files."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from harness.config.documents import DamagedError, typed
from harness.config.errors import InputError
from harness.runs.confirmation import Candidate, Confirmation, read_confirmation
from harness.runs.confirmation_plan import read_plan
from harness.runs.constraints import broken, margins_of
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.files import read_yaml
from harness.runs.lifecycle import current_state
from harness.runs.metrics import Row
from harness.runs.pareto import front
from harness.runs.result import Result, State, read_result
from harness.runs.trial import Trial, read_trial
from harness.runs.wandb_page import page_in_wandb

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunRecord:
    """A run: a trial of a study (number and params set) or a single run."""

    directory: RunDirectory
    result: Result
    study: str | None = None
    trial: Trial | None = None
    state: State = "waiting"
    """Like result.state, but a run whose process was killed is waiting, not running."""

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def location(self) -> str:
        """Where it can be looked at: its directory, or its page in W&B."""
        return str(self.directory.path)

    @property
    def page(self) -> str | None:
        """Its page in W&B, as far as its files know one."""
        try:
            return page_in_wandb(self.directory)
        except DamagedError as error:
            _warn(str(error))
            return None

    @property
    def number(self) -> int | None:
        return self.trial.number if self.trial else None

    @property
    def params(self) -> dict[str, Any]:
        return (self.trial.params if self.trial else None) or {}

    @property
    def standing(self) -> str:
        """What people read: the state, or infeasible: complete, but outside of a constraint."""
        return "infeasible" if self.state == "complete" and self.result.feasible is False else self.state

    @property
    def devices(self) -> int:
        """How many devices an attempt holds."""
        return self.trial.devices if self.trial else 1

    @property
    def device_hours(self) -> float:
        """Wall time of all attempts, in hours, times the devices."""
        return self.result.seconds * self.devices / 3600

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, nested; empty where it is damaged, which is said."""
        try:
            return read_yaml(self.directory.config) if self.directory.config.exists() else {}
        except DamagedError as error:
            _warn(str(error))
            return {}

    @cached_property
    def rows(self) -> list[Row]:
        """metrics.jsonl, one row a step, in order; none where it is damaged, which is said."""
        try:
            return self.directory.metrics.rows()
        except DamagedError as error:
            _warn(str(error))
            return []


@dataclass(frozen=True)
class Objective:
    """What a study minimises or maximises."""

    metric: str
    direction: str = "minimize"

    @property
    def sign(self) -> int:
        """1 where lower is better, else -1: signed values are costs."""
        return 1 if self.direction == "minimize" else -1

    def better(self, a: float, b: float) -> bool:
        """Whether value `a` is strictly better than `b`."""
        return self.sign * a < self.sign * b


@dataclass(frozen=True)
class StudyRecord:
    """A study, read from its files."""

    directory: StudyDirectory
    sweep: dict[str, Any]
    """sweep.yaml."""
    runs: list[RunRecord] = field(default_factory=list)
    """The trials, in the order of their numbers."""
    confirmation: Confirmation | None = None
    """What `harness confirm` found so far, if it was asked to."""
    confirms: str | None = None
    """Where this is itself a confirmation: the study whose best trials these are, over seeds."""

    paid_for: list[RunRecord] = field(default_factory=list)
    """The runs of its confirmation that its own budget pays for (search.confirm)."""

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def confirmed(self) -> Candidate | None:
        """The confirmed winner: its mean over seeds and more; None where there is none."""
        return self.confirmation.winner if self.confirmation else None

    @property
    def objective(self) -> Objective:
        """What ranks trials: the first one of several."""
        return self.objectives[0]

    @property
    def objectives(self) -> list[Objective]:
        first = dict(self.sweep["objective"])
        return [Objective(**given) for given in (first, *first.pop("also", []))]

    @property
    def constraints(self) -> dict[str, dict[str, float]]:
        """{metric: {max: …} or {min: …}, perhaps with chance}"""
        constraints: dict[str, dict[str, float]] = self.sweep.get("constraints") or {}
        return constraints

    @property
    def best(self) -> RunRecord | None:
        """The confirmed winner; without one, the complete trial with the best objective among those that meet the constraints, or None."""
        return self.ranked[0] if self.ranked else None

    @property
    def ranked(self) -> list[RunRecord]:
        """The complete trials that meet the constraints, the confirmed winner and then the best first; of several objectives, the first one
        counts."""
        # Of a trunk search, runs of full length come before shorter ones, whatever their objectives.
        placed = [
            (not self.is_confirmed(run), -((run.trial and run.trial.rung) or 0), self.objective.sign * run.result.objective, run)
            for run in self.runs
            if run.state == "complete" and run.result.objective is not None and self.is_feasible(run) is not False
        ]
        return [run for *_, run in sorted(placed, key=lambda place: place[:3])]

    @property
    def nearest(self) -> RunRecord | None:
        """The infeasible trial that breaks its constraints by the least, as a share of each bound, in sum; None where there is none."""
        found = []
        for run in self.runs:
            if run.standing == "infeasible" and all(metric in run.result.metrics for metric in self.constraints):
                excess = sum(
                    max(0.0, margin) / (abs(bound[side]) or 1.0)
                    for metric, bound in self.constraints.items()
                    for side, margin in margins_of(bound, run.result.metrics[metric]).items()
                )
                found.append((excess, run.number or 0, run))
        return min(found, key=lambda place: place[:2])[2] if found else None

    def is_feasible(self, run: RunRecord) -> bool | None:
        """Whether a complete trial meets the constraints; of the confirmed winner, by its means. None where nothing is constrained."""
        return self.confirmed.feasible if self.confirmed and self.is_confirmed(run) else run.result.feasible

    def breaks(self, run: RunRecord) -> list[str]:
        """The constraints that a trial breaks, in words: "val/general/forgetting 0.2826 > 0.25"; of the confirmed winner, by its means."""
        metrics = self.confirmed.metrics if self.confirmed and self.is_confirmed(run) else run.result.metrics
        return broken(self.constraints, metrics)

    def has_full_length(self, run: RunRecord) -> bool:
        """Whether the trial is as long as the study's base says: it is no shorter run of a trunk search."""
        trainer, space = self.sweep.get("config", {}).get("trainer", {}), self.sweep.get("space") or {}
        chosen = (key for key in ("max_tokens", "max_steps") if f"trainer.{key}" in run.params and f"trainer.{key}" not in space)
        return all(run.params[f"trainer.{key}"] == trainer.get(key) for key in chosen)

    def is_confirmed(self, run: RunRecord) -> bool:
        """Whether the run is the trial that the confirmation found best."""
        return self.confirmed is not None and run.number == self.confirmed.number

    @property
    def pareto(self) -> list[RunRecord]:
        """The ranked trials that no other one beats in one objective without losing in another; with one objective, the best alone."""
        ranked, objectives = self.ranked, self.objectives
        if len(objectives) == 1:
            return ranked[:1]
        costs = [tuple(objective.sign * run.result.metrics[objective.metric] for objective in objectives) for run in ranked]
        unbeaten = {run.number for run in front(list(zip(ranked, costs, strict=True)))}
        return [run for run in ranked if run.number in unbeaten]


def load_run(run: RunDirectory, *, study: str | None = None) -> RunRecord:
    """Read a run's files. One whose files cannot be read is `damaged`, for the reason that its result then gives."""
    result, problems = Result(), list[str]()
    # What we can read of a damaged trial places it among the others.
    trial = Trial(number=int(run.path.name), params=None, tokens=0) if study is not None else None
    try:
        trial = read_trial(run)
    except DamagedError as error:
        problems.append(str(error))
    try:
        result = read_result(run)
    except DamagedError as error:
        problems.append(str(error))
    # The others are read when they are asked for.
    problems += [str(DamagedError(path, "it is no regular file")) for path in (run.config, run.metrics.path) if _is_no_file(path)]
    # An attempt writes its result first, and a study its trial.
    for path, later in ((run.result, run.metrics.path), (run.trial, run.result)):
        if later.exists() and not path.exists() and (path != run.trial or study is not None):
            problems.append(str(DamagedError(path, f"it is gone, though {later.name} is there")))
    if problems:
        _warn(" ".join(problems))
        trial = trial or (Trial(number=int(run.path.name), params=None, tokens=0) if study is not None else None)
        return RunRecord(run, Result(reason=" ".join(problems), tokens=result.tokens), study, trial, "damaged")
    return RunRecord(directory=run, result=result, study=study, trial=trial, state=current_state(run, result, trial))


@cache
def _warn(problem: str) -> None:
    """Once, however often a view is drawn."""
    log.warning("%s", problem)


def _is_no_file(path: Path) -> bool:
    return path.exists() and not path.is_file()


@dataclass
class _Objective:
    metric: str
    direction: Literal["minimize", "maximize"]
    also: list[dict[str, str]] = field(default_factory=list)


@dataclass
class _FrozenSweep:
    """What readers rely on in sweep.yaml; whoever goes on with the study checks all of it."""

    objective: _Objective
    space: dict[str, dict[str, Any]] | None = None
    budget: dict[str, float | None] | None = None
    config: dict[str, Any] | None = None
    constraints: dict[str, dict[str, float | None]] | None = None


def load_study(study: StudyDirectory) -> StudyRecord:
    """Read a study's files; of its trials, those whose files cannot be read are `damaged`. Raises InputError when its sweep.yaml cannot be
    read."""
    try:
        sweep = read_yaml(study.sweep)
    except OSError as error:
        raise InputError(f"{study.sweep}: cannot be read as a frozen sweep: {error}") from error
    typed(_FrozenSweep, sweep, study.sweep)
    runs = [load_run(run, study=study.name) for run in study.trials()]
    plan = read_plan(study)
    confirmation = read_confirmation(study, sweep)
    paid_for = (
        [load_run(confirmation.directory.trial(number), study=confirmation.directory.name) for number in confirmation.plan.charged]
        if confirmation
        else []
    )
    return StudyRecord(study, sweep, runs, confirmation, plan.study if plan else None, paid_for)
