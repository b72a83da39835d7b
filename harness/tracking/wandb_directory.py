"""What a run's wandb/ directory says in files of our own: which W&B run it is, and what W&B has of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.runs.directory import RunDirectory
from harness.runs.files import read_json, write_json
from harness.runs.result import Result, read_result


@dataclass(frozen=True)
class OpenedRun:
    """The W&B run that the first attempt opened: later ones, and `harness sync`, keep to it."""

    id: str
    entity: str | None
    """None offline, where none was named: the account that uploads decides."""
    project: str


def read_opened(run: RunDirectory) -> OpenedRun | None:
    """None before the first attempt has opened it."""
    known = read_json(_opened(run))
    return None if known is None else OpenedRun(known["id"], known["entity"], known["project"])


def write_opened(run: RunDirectory, opened: OpenedRun) -> None:
    """Later attempts change nothing."""
    if not _opened(run).exists():
        write_json(_opened(run), asdict(opened))


def is_synced(run: RunDirectory) -> bool:
    """Whether an ended run is in W&B: nothing was added to it since."""
    known = read_json(_synced(run))
    return known is not None and known.get("end") == _end_of(read_result(run))


def mark_synced(run: RunDirectory, result: Result, *, url: str, rows: int, last_step: int) -> None:
    """The server has shown that it has the run as `result` says: so many rows, the last one of this step."""
    write_json(_synced(run), {"url": url, "rows": rows, "last_step": last_step, "end": _end_of(result)})
    for log in run.path.glob("wandb/*run-*/run-*.wandb"):
        # The client's own mark: `wandb sync --sync-all` leaves the log out.
        log.with_name(f"{log.name}.synced").touch()


def _opened(run: RunDirectory) -> Path:
    return run.path / "wandb" / "run.json"


def _synced(run: RunDirectory) -> Path:
    return run.path / "wandb" / "synced.json"


def _end_of(result: Result) -> dict[str, Any]:
    """What of a run's end can change when another attempt goes on with it, or its study judges it."""
    return {"state": result.state, "attempts": result.attempts, "step": result.step, "objective": result.objective}
