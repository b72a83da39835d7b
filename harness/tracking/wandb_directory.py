"""Our own files in a run's wandb/ directory: its W&B run, and what was uploaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.config.documents import typed
from harness.config.errors import InputError
from harness.runs.directory import RunDirectory
from harness.runs.files import read_json, write_json
from harness.runs.result import Result, read_result
from harness.tracking.server_address import server_address


@dataclass(frozen=True)
class OpenedRun:
    """The W&B run that the first attempt opened; later attempts and `harness sync` use it."""

    id: str
    entity: str | None
    """None if offline and not given: that of the account that uploads."""
    project: str
    url: str | None = None
    """Its page; None if offline."""


def read_opened(run: RunDirectory) -> OpenedRun | None:
    """None before the first attempt has opened it. Raises DamagedError."""
    known = read_json(run.wandb_opened)
    return None if known is None else typed(OpenedRun, known, run.wandb_opened)


def write_opened(run: RunDirectory, opened: OpenedRun) -> None:
    """Write it, unless an earlier attempt did."""
    if not run.wandb_opened.exists():
        write_json(run.wandb_opened, asdict(opened))


def refuse_links(run: RunDirectory) -> None:
    """Raise InputError where a file that would be uploaded, or marked as such, is a link: a run that one is given could mean any private
    file by it."""
    study = [run.study.sweep] if run.study else []
    wandb = run.path / "wandb"
    for path in (
        run.config,
        run.metrics.path,
        run.generations.path,
        run.result,
        run.trial,
        wandb,
        run.wandb_opened,
        run.wandb_synced,
        *wandb.glob("*run-*"),
        *_client_logs(run, "*"),
        *study,
    ):
        if path.is_symlink():
            raise InputError(
                f"{path} is a link (to {path.readlink()}): a run is uploaded from its own files alone; put the file itself there"
            )


def is_synced(run: RunDirectory) -> bool:
    """Whether an ended run is with everything in W&B, on the server and in the project where it belongs now."""
    known = read_json(run.wandb_synced)
    return known is not None and known.get("end") == _end_of(read_result(run)) and known.get("place") == _place(run)


def _place(run: RunDirectory) -> dict[str, str | None]:
    opened = read_opened(run)
    entity = (opened.entity if opened else None) or os.environ.get("WANDB_ENTITY") or None
    return {"server": server_address(), "entity": entity, "project": opened.project if opened else None}


def mark_synced(run: RunDirectory, result: Result, *, url: str, rows: int, last_step: int) -> None:
    """Record that the server has shown the run in the state of `result`, with so many rows up to `last_step`."""
    place = _place(run)
    write_json(run.wandb_synced, {"url": url, "rows": rows, "last_step": last_step, "end": _end_of(result), "place": place})
    for log in _client_logs(run):
        # The client's own mark: `wandb sync --sync-all` leaves the log out.
        log.with_name(f"{log.name}.synced").touch()


def _client_logs(run: RunDirectory, more: str = "") -> Iterator[Path]:
    """What W&B's own client logged offline; with "*" what it has noted beside as well."""
    return run.path.glob(f"wandb/*run-*/run-*.wandb{more}")


def _end_of(result: Result) -> dict[str, Any]:
    """The parts of a result that change with another attempt, or when its study settles it."""
    return {"state": result.state, "attempts": result.attempts, "step": result.step, "objective": result.objective}
