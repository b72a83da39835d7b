"""A study's note that W&B lacks something of its trials: a sweep says it once, where each trial has it in its own log."""

from __future__ import annotations

from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.files import read_json, write_json


def note_wandb_off(study: StudyDirectory, run: RunDirectory, reason: str) -> None:
    """The first trial counts: the others as a rule have the same reason."""
    if not study.wandb_off.exists():
        write_json(study.wandb_off, {"run": run.name, "reason": reason})


def wandb_off(study: StudyDirectory) -> str | None:
    """In words, with what to do about it; None where W&B has everything that it was to have."""
    note = read_json(study.wandb_off)
    if note is None:
        return None
    return f"W&B was off since {note.get('run')}: {note.get('reason')} `harness sync {study.name}` uploads what it lacks"
