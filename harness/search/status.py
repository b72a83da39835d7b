"""The state of a study, from its files alone: fast, and without disturbing anybody."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from harness.config.documents import typed
from harness.config.sweep_schema import BudgetConfig
from harness.runs.directory import StudyDirectory
from harness.runs.files import read_json
from harness.runs.record import RunRecord, StudyRecord, load_study
from harness.runs.result import FINAL_STATES, TeacherLedger
from harness.search.budget import Budget, open_budget
from harness.search.workers import living_workers


@dataclass(frozen=True)
class Status:
    """A study at one moment."""

    study: StudyRecord
    budget: Budget
    workers: list[dict[str, Any]]

    @cached_property
    def best(self) -> RunRecord | None:
        return self.study.best

    @property
    def is_finished(self) -> bool:
        """Whether every trial has ended and no further one fits: whether a worker would find that nothing is left to do."""
        if any(run.state not in FINAL_STATES for run in self.study.runs):
            return False
        sweep = self.study.sweep
        if sweep["search"]["name"] == "trunk" or self.confirms_itself:
            # Its runs have many lengths, uses and reserves: a worker has written down that none fits.
            runs = {"confirming": len(self.study.paid_for)} if self.confirms_itself else {}
            return read_json(self.study.directory.exhausted) == {"trials": len(self.study.runs), "limits": self.budget.limits, **runs}
        trainer = sweep["config"]["trainer"]
        return not self.budget.has_room_for(sweep["largest_trial_tokens"], devices=trainer["devices"] * trainer["nodes"])

    @property
    def confirms_itself(self) -> bool:
        """Whether a part of its budget is for confirming what it finds."""
        return bool(self.study.sweep.get("confirms_itself"))

    @property
    def phase(self) -> Literal["searching", "confirming", "ended"]:
        """What the study is at."""
        if self.is_finished:
            return "ended"
        return "confirming" if any(run.state not in FINAL_STATES for run in self.study.paid_for) else "searching"

    @property
    def missing_workers(self) -> int:
        """How many fewer live than the study was last launched with, while there is work left."""
        return 0 if self.is_finished else max(0, self.study.sweep["launcher"]["workers"] - len(self.workers))

    @property
    def estimated_end(self) -> float | None:
        """When the living workers should be done, in seconds since the epoch, at the pace of the trials so far; None before the first."""
        ended = [run for run in self.study.runs if run.state in FINAL_STATES and run.trial]
        tokens = sum(run.result.tokens.spent for run in ended)
        left = self._tokens_left(ended)
        if not tokens or left is None or not self.workers or self.is_finished:
            return None
        seconds = sum(run.trial.seconds for run in ended if run.trial)
        return self.budget.now + left * seconds / tokens / len(self.workers)

    def _tokens_left(self, ended: list[RunRecord]) -> float | None:
        """What the budget leaves to be trained; None where only time limits it."""
        limits = []
        if self.budget.tokens.limit is not None:
            limits.append(self.budget.tokens.limit - self.budget.tokens.used)
        if self.budget.trials.limit is not None:
            each = sum(run.result.tokens.spent for run in ended) / max(1, len(ended))
            under_way = [run for run in self.study.runs if run.state not in (*FINAL_STATES, "damaged")]
            # As far as their last rows tell.
            done = sum((run.directory.metrics.newest() or {}).get("tokens", 0) for run in under_way)
            limits.append(max(0.0, (self.budget.trials.limit - len(ended)) * each - done))
        return min(limits, default=None)

    def count(self) -> dict[str, int]:
        """Trials by state."""
        return dict(Counter(run.state for run in self.study.runs))

    def standings(self) -> dict[str, int]:
        """Trials by what people read: complete ones that break a constraint are infeasible."""
        return dict(Counter(run.standing for run in self.study.runs))

    def standings_text(self) -> str:
        """The same in words."""
        return ", ".join(f"{count} {state}" for state, count in self.standings().items()) or "no trial"

    @property
    def teachers(self) -> TeacherLedger:
        """What teachers who made the data of its runs cost; the budget's tokens are the students'."""
        return TeacherLedger.of(run.result for run in [*self.study.runs, *self.study.paid_for])

    def to_json(self) -> dict[str, Any]:
        """What `harness status --json` prints."""
        return {
            "study": self.study.name,
            "directory": str(self.study.directory.path),
            "objective": asdict(self.study.objective),
            "constraints": self.study.constraints,
            "finished": self.is_finished,
            "phase": self.phase,
            "trials": [_trial(run) for run in self.study.runs],
            "budget": self.budget.to_json(),
            "teachers": asdict(self.teachers),
            "best": best_json(self.study, self.best),
            "pareto": [best_json(self.study, run) for run in self.study.pareto],
            "confirmation": self.study.confirmation.to_json() if self.study.confirmation else None,
            "objectives": [asdict(objective) for objective in self.study.objectives],
            "start": self.study.sweep.get("start"),
            "workers": self.workers,
            "missing_workers": self.missing_workers,
            "gpu_hours": {"used": self.budget.gpu_hours.used, "reserved": self.budget.gpu_hours.reserved},
            "estimated_end": self.estimated_end,
        }


@dataclass
class _Search:
    name: str


@dataclass
class _Launcher:
    workers: int


@dataclass
class _Devices:
    devices: int
    nodes: int


@dataclass
class _Config:
    trainer: _Devices


@dataclass
class _Frozen:
    """What a status needs of sweep.yaml beside what all readers need."""

    space: dict[str, dict[str, Any]]
    search: _Search
    budget: dict[str, float | None]
    launcher: _Launcher
    largest_trial_tokens: int
    config: _Config


def read_status(directory: StudyDirectory) -> Status:
    """Raises InputError when the study's files cannot be read."""
    study = load_study(directory)
    typed(_Frozen, study.sweep, directory.sweep)
    config, most = BudgetConfig(**study.sweep["budget"]), study.sweep.get("most_trials")
    budget = open_budget(config, [*study.runs, *study.paid_for], now=time.time(), most_trials=most)
    return Status(study, budget, living_workers(directory))


def best_json(study: StudyRecord, best: RunRecord | None) -> dict[str, Any] | None:
    """A trial that is best; of the confirmed winner, objective and interval are of its mean over the seeds of the confirmation."""
    if best is None:
        return None
    found: dict[str, Any] = {"number": best.number, "params": best.params, "objective": best.result.objective}
    confirmed = study.confirmed if study.is_confirmed(best) else None
    if confirmed is None or confirmed.interval is None:
        return {**found, "confirmed": False, "interval": None}
    interval = confirmed.interval
    return {**found, "objective": interval.mean, "confirmed": True, "interval": [interval.low, interval.high]}


def _trial(run: RunRecord) -> dict[str, Any]:
    return {
        "number": run.number,
        "state": run.state,
        "reason": run.result.reason,
        "params": run.params,
        "objective": run.result.objective,
        "feasible": run.result.feasible,
        "metrics": run.result.metrics,
        "attempts": run.result.attempts,
        "worker": run.trial.worker if run.trial else None,
        "seconds": run.result.seconds,
        "step": run.result.step,
        "tokens": asdict(run.result.tokens),
        "teachers": asdict(run.result.teachers),
        **_where(run),
    }


def _where(run: RunRecord) -> dict[str, Any]:
    """Where it was taken up last: the Slurm job (null outside of Slurm), the node, and how often the job had been restarted by then."""
    place = run.trial.place if run.trial else None
    if place is None:
        return {"job": None, "node": None, "restarts": 0}
    return {"job": place.job, "node": place.node, "restarts": place.restart}
