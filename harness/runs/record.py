"""One run as tables and pictures see it: read from its own files, whatever wrote them and wherever it belongs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import yaml

from harness.config.errors import InputError
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.files import read_yaml
from harness.runs.metrics import Row
from harness.runs.result import FINAL_STATES, Result, State, read_result
from harness.runs.trial import Trial, read_trial


@dataclass(frozen=True)
class RunRecord:
    """A run: a trial of a study (number and params set) or a single run."""

    directory: RunDirectory
    result: Result
    study: str | None = None
    trial: Trial | None = None
    state: State = "waiting"
    """Like result.state, but a run whose process died without a word is waiting, not running."""

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def number(self) -> int | None:
        return self.trial.number if self.trial else None

    @property
    def params(self) -> dict[str, Any]:
        return (self.trial.params if self.trial else None) or {}

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, nested."""
        return read_yaml(self.directory.config) if self.directory.config.exists() else {}

    @cached_property
    def rows(self) -> list[Row]:
        """metrics.jsonl, one row a step, in order."""
        return self.directory.metrics.rows()


@dataclass(frozen=True)
class Objective:
    """What a study minimises or maximises."""

    metric: str
    direction: str = "minimize"

    def better(self, a: float, b: float) -> bool:
        """Whether value `a` is strictly better than `b`."""
        return a < b if self.direction == "minimize" else a > b


@dataclass(frozen=True)
class StudyRecord:
    """A study as its files tell it."""

    directory: StudyDirectory
    sweep: dict[str, Any]
    """sweep.yaml."""
    runs: list[RunRecord] = field(default_factory=list)
    """The trials, in the order of their numbers."""

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def objective(self) -> Objective:
        return Objective(**self.sweep["objective"])

    @property
    def constraints(self) -> dict[str, dict[str, float]]:
        """{metric: {max: …} or {min: …}}"""
        constraints: dict[str, dict[str, float]] = self.sweep.get("constraints") or {}
        return constraints

    @property
    def best(self) -> RunRecord | None:
        """The complete trial with the best objective among those that meet the constraints, or None."""
        best: RunRecord | None = None
        for run in self.runs:
            value = run.result.objective
            if run.state != "complete" or value is None or run.result.feasible is False:
                continue
            if best is None or best.result.objective is None or self.objective.better(value, best.result.objective):
                best = run
        return best


def load_run(run: RunDirectory, *, study: str | None = None) -> RunRecord:
    """Read a run's files."""
    result, trial = read_result(run), read_trial(run)
    state = result.state
    if state not in FINAL_STATES:
        state = "running" if run.is_attempted() else "waiting"
    elif trial and state == "complete" and result.objective is None:
        # Its training has ended, but its worker has not judged it yet.
        state = "running"
    return RunRecord(directory=run, result=result, study=study, trial=trial, state=state)


def load_study(study: StudyDirectory) -> StudyRecord:
    """Read a study's files. Raises InputError when its sweep.yaml cannot be read."""
    try:
        sweep = read_yaml(study.sweep)
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{study.sweep}: cannot be read as a frozen sweep: {error}") from error
    return StudyRecord(study, sweep, [load_run(run, study=study.name) for run in study.trials()])
