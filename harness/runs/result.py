"""result.json: the result of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from harness.config.documents import typed
from harness.config.errors import InputError
from harness.runs.directory import RunDirectory
from harness.runs.files import read_json, write_json

State = Literal["waiting", "running", "complete", "pruned", "failed", "damaged"]
"""damaged: its files cannot be read; readers are shown it, and no file says it."""
FINAL_STATES: tuple[State, ...] = ("complete", "pruned", "failed")
ENDED_WELL: tuple[State, ...] = ("complete", "pruned")
"""Nothing is left to do, and nothing went wrong."""


@dataclass(kw_only=True)
class Tokens:
    """Tokens of a run, padding not counted."""

    trained: int = 0
    """Trained by this run's own attempts, steps repeated after a crash included."""
    shared: int = 0
    """Trained by another run, and taken over with its trunk."""
    budgeted: int = 0
    """What this run trains itself by its plan, or reads where it trains nothing: reserved before it starts."""
    read: int = 0
    """Read by the evaluations of a run that trains nothing, those repeated after a crash included."""
    position: int = 0
    """Where the next attempt goes on: tokens before it are not trained again."""

    @property
    def length(self) -> int:
        """Tokens of the whole run, shared or repeated or not; 0 before its plan is known."""
        return self.budgeted + self.shared

    @property
    def spent(self) -> int:
        """What the run has cost so far, as budgets count it."""
        return self.trained + self.read

    @property
    def reached(self) -> int:
        """How far the run is: never more than its length, though steps after a crash are trained twice."""
        return min(self.spent + self.shared, self.length)


@dataclass(kw_only=True)
class TeacherTokens:
    """Tokens of the teachers that made a run's data; they are no tokens of the run."""

    spent: int = 0
    """By this run's own attempts."""
    shared: int = 0
    """By others, before."""
    pools: dict[str, int] = field(default_factory=dict)
    """What the texts that its data are made of have cost, whoever paid, by the name of their pool in the cache."""

    @property
    def all(self) -> int:
        """What the run's data cost, whoever paid."""
        return self.spent + self.shared


@dataclass(frozen=True)
class TeacherLedger:
    """What teachers cost several runs together: of a pool that several runs read, or that was there before them, the tokens count once."""

    spent: int
    pools: int
    saved: int
    """What they would have cost besides if every run had had its data made for itself."""

    @staticmethod
    def of(results: Iterable[Result]) -> TeacherLedger:
        pools: dict[str, int] = {}
        read = 0
        for result in results:
            for name, tokens in result.teachers.pools.items():
                pools[name] = max(tokens, pools.get(name, 0))
            read += sum(result.teachers.pools.values())
        spent = sum(pools.values())
        return TeacherLedger(spent, len(pools), max(0, read - spent))


@dataclass(kw_only=True)
class Parameters:
    """Size of a model, adapters included."""

    trained: int = 0
    total: int = 0


@dataclass(kw_only=True)
class Result:
    """The result of a run so far."""

    state: State = "waiting"
    reason: str | None = None
    """Why it failed or waits, in words."""
    objective: float | None = None
    """The study's metric; null for a single run."""
    feasible: bool | None = None
    """Whether the study's constraints hold; null where there are none."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The last logged values, by their logged names."""
    step: int = 0
    """Optimizer steps done."""
    tokens: Tokens = field(default_factory=Tokens)
    teachers: TeacherTokens = field(default_factory=TeacherTokens)
    shared_from: str | None = None
    """The run that trained the last of `tokens.shared`; null where this run trained everything itself."""
    parameters: Parameters = field(default_factory=Parameters)
    """Known when training begins."""
    seconds: float = 0.0
    """Wall time of all attempts."""
    waits_for: str | None = None
    """The lock of the lease under which another run trains what this one needs; null when nothing keeps it from starting."""
    evaluation_seconds: float = 0.0
    """The part of it that evaluations took."""
    set_seconds: dict[str, float] = field(default_factory=dict)
    """Of that, what each evaluation set took, by its key."""
    attempts: int = 0
    failures: int = 0
    """Attempts that crashed or were killed (a clean stop is none)."""
    booked_attempts: int = 0
    """Attempts whose end is counted; one fewer than `attempts` while one is under way."""
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    fingerprints: dict[str, str] = field(default_factory=dict)
    """Of data, tokenizer and model."""
    hardware: dict[str, Any] = field(default_factory=dict)
    directory: str | None = None
    """The working directory of its first attempt: relative paths of its configuration begin there."""

    def add_evaluation(self, seconds: float, of_sets: Mapping[str, float]) -> None:
        """Count the time that an attempt evaluated. of_sets: what of it each set took, by its key."""
        self.evaluation_seconds += seconds
        for key, taken in of_sets.items():
            self.set_seconds[key] = self.set_seconds.get(key, 0.0) + taken


def read_result(run: RunDirectory) -> Result:
    """The run's result so far; a fresh one before its first attempt. Raises DamagedError."""
    document = read_json(run.result)
    return Result() if document is None else typed(Result, document, run.result)


def write_result(run: RunDirectory, result: Result) -> None:
    """Raises InputError where the run's directory is gone: it would be made anew with this file alone."""
    if not run.path.is_dir():
        raise InputError(f"{run.path}: was moved or removed while it was worked on")
    write_json(run.result, asdict(result))
