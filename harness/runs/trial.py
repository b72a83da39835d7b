"""trial.json: what makes a run a trial of a study."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from harness.runs.directory import RunDirectory
from harness.runs.files import read_json, write_json


@dataclass(kw_only=True)
class Trial:
    """A point of a study."""

    number: int
    params: dict[str, Any] | None
    """Values of the space's parameters that are active in this trial, by configuration key; null while it is only reserved."""
    tokens: int
    """Upper bound of what its plan trains: reserved from the budget before it starts."""
    worker: str | None = None
    """Who works on it, or worked on it last."""


def read_trial(run: RunDirectory) -> Trial | None:
    document = read_json(run.trial)
    return Trial(**document) if document else None


def write_trial(run: RunDirectory, trial: Trial) -> None:
    write_json(run.trial, asdict(trial))
