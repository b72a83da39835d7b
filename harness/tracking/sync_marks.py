"""What is in W&B already, as our own files tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.runs.directory import RunDirectory
from harness.runs.files import read_json, write_json
from harness.runs.result import Result, read_result


def _mark(run: RunDirectory) -> Path:
    return run.path / "wandb" / "synced.json"


def is_synced(run: RunDirectory) -> bool:
    """Whether an ended run is in W&B: nothing was added to it since."""
    known = read_json(_mark(run))
    return known is not None and known.get("end") == _end_of(read_result(run))


def mark_synced(run: RunDirectory, result: Result, *, url: str, rows: int, last_step: int) -> None:
    """The server has shown that it has the run as `result` says: so many rows, the last one of this step."""
    write_json(_mark(run), {"url": url, "rows": rows, "last_step": last_step, "end": _end_of(result)})


def _end_of(result: Result) -> dict[str, Any]:
    """What of a run's end can change when another attempt goes on with it, or its study judges it."""
    return {"state": result.state, "attempts": result.attempts, "step": result.step, "objective": result.objective}
