"""What a W&B server has of our runs, through the client's public API."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import wandb

from harness.tracking.wandb_run import has_login, refuse_unreachable, tracking_errors

REQUEST_SECONDS = 30
RUNS_AT_ONCE = 100


@dataclass(frozen=True)
class RemoteRun:
    """A run as the server has it."""

    state: str
    url: str
    summary: dict[str, Any]
    rows: int
    last_step: int
    """-1 where there is no row."""
    steps: list[int] | None
    """Of its rows; None where `rows` and `last_step` say it all."""


class Server:
    """A server that we are logged in to, within `client`. Raises TrackingError where it cannot be reached or does not let us in."""

    def __init__(self) -> None:
        with tracking_errors("W&B"):
            if has_login():  # else it says so itself, at once
                refuse_unreachable()
            self._api = wandb.Api(timeout=REQUEST_SECONDS)
            self.default_entity = os.environ.get("WANDB_ENTITY") or str(self._api.default_entity)

    def runs(self, entity: str, project: str, expected: dict[str, set[int]]) -> dict[str, RemoteRun]:
        """Those of the runs that the server has, by id. expected: by id, the steps that the run should have.

        Raises TrackingError when the server does not answer.
        """
        with tracking_errors("W&B"):
            # Else it would answer from its cache.
            self._api.flush()  # type: ignore[no-untyped-call]
            try:
                found = list(self._api.runs(f"{entity}/{project}", filters={"name": {"$in": list(expected)}}, per_page=RUNS_AT_ONCE))
            except ValueError:  # the project does not exist yet
                return {}
            return {run.id: _remote(run, expected[run.id]) for run in found}


def _remote(run: Any, expected: set[int]) -> RemoteRun:
    rows, last_step = int(run.history_line_count or 0), int(run.lastHistoryStep)
    says_it_all = not rows or (rows == len(expected) and last_step == max(expected))
    steps = None if says_it_all else sorted(row["_step"] for row in run.scan_history(keys=["_step"], use_cache=False))
    return RemoteRun(run.state, run.url, dict(run.summary), rows, last_step if rows else -1, steps)
