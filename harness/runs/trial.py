"""trial.json: what makes a run a trial of a study."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.config.documents import typed
from harness.runs.directory import RunDirectory
from harness.runs.files import read_json, write_json
from harness.runs.place import Place


@dataclass(frozen=True, kw_only=True)
class ClaimedBy:
    """A worker that claimed the trial."""

    worker: str
    place: Place
    began: float
    """Seconds since the epoch."""


@dataclass(kw_only=True)
class Trial:
    """A point of a study."""

    number: int
    params: dict[str, Any] | None
    """Values of the space's parameters that are active in this trial, by configuration key; null while it is only reserved."""
    tokens: int
    """Upper bound of what its plan trains: reserved from the budget before it starts."""
    worker: str | None = None
    """The worker that has it, or had it last."""
    devices: int = 1
    """How many devices an attempt holds; a run on CPUs holds one."""
    spans: list[list[float]] = field(default_factory=list)
    """Begin and end of each attempt that was settled, in seconds since the epoch."""
    began: float | None = None
    """When the attempt under way was claimed, in seconds since the epoch."""
    lease: float | None = None
    """For how many seconds from then on it may run; null without a budget of time."""
    rung: int | None = None
    """The rung of a trunk search, from 0."""
    parent: int | None = None
    """The trial whose trunk it continues."""
    given: dict[str, Any] | None = None
    """Values that were not left to the sampler."""
    claims: list[ClaimedBy] = field(default_factory=list)
    """Who claimed it, and where, the latest last."""
    given_up: str | None = None
    """Why it is stopped early; it is then booked as pruned."""

    @property
    def seconds(self) -> float:
        """Wall time of the attempts that were settled."""
        return sum(end - begin for begin, end in self.spans)

    @property
    def place(self) -> Place | None:
        """Where it was claimed last."""
        return self.claims[-1].place if self.claims else None

    @property
    def lease_ends(self) -> float:
        """When the attempt under way has to be over, in seconds since the epoch."""
        return math.inf if self.began is None or self.lease is None else self.began + self.lease


def read_trial(run: RunDirectory) -> Trial | None:
    """trial.json; None for a single run. Raises DamagedError."""
    document = read_json(run.trial)
    if document is None:
        return None
    # What harnesses before December 2026 called it.
    claims = document.pop("visits", [])
    return typed(Trial, {"claims": claims, **document}, run.trial)


def claimed_trial(run: RunDirectory) -> Trial:
    """trial.json of a claimed trial."""
    trial = read_trial(run)
    assert trial is not None, "a claimed trial is on disk"
    return trial


def write_trial(run: RunDirectory, trial: Trial) -> None:
    write_json(run.trial, asdict(trial))
