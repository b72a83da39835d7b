"""What the tests have forked children do: attempts on a run with the real client, and reading runs back through its API.

Children are forked from a warm server that has imported everything, the client too, as the workers of a sweep are.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from harness.config.schema import TrackingConfig
from harness.tracking import wandb_logger
from harness.tracking.identity import Identity, run_id
from harness.tracking.wandb_run import kill_client

Environment = dict[str, str]
Result = TypeVar("Result")

RUN_ID = run_id("study", "7")
HYPERPARAMETERS = {"optim": {"lr": 0.001}, "seed": 3}

warm = multiprocessing.get_context("forkserver")
warm.set_forkserver_preload(["harness.tracking.warm", "tests.tracking.attempts"])


def forked(function: Callable[..., Result], *arguments: Any, **keywords: Any) -> Result:
    """What the function returns in a fresh child of the warm server."""
    with ProcessPoolExecutor(1, mp_context=warm) as pool:
        return pool.submit(function, *arguments, **keywords).result(timeout=120)


@dataclass
class Outcome:
    """How an attempt went for its caller."""

    warnings: list[str] = field(default_factory=list)
    slowest_log_seconds: float = 0.0
    finish_seconds: float = 0.0


def attempt(
    directory: Path,
    environment: Environment,
    rows: dict[int, dict[str, float | None]],
    *,
    config: TrackingConfig | None = None,
    summary: dict[str, float] | None = None,
    preempted: bool = False,
    status: str = "success",
    online_finish_seconds: float | None = None,
    client_dies: bool = False,
    pause_seconds: float = 0.0,
) -> Outcome:
    """One attempt on a run: logs `rows` by step, and finishes. The client dies, or the attempt pauses, when half of them are logged."""
    os.environ.update(environment)
    if online_finish_seconds is not None:
        wandb_logger.FINISH_ONLINE_SECONDS = online_finish_seconds
    outcome = Outcome()
    handler = logging.Handler()
    handler.emit = lambda record: outcome.warnings.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("harness.tracking").addHandler(handler)
    run = wandb_logger.WandbLogger(
        config or TrackingConfig(),
        identity=Identity(id=RUN_ID, name="study/0007", group="study", job_type="trial"),
        directory=directory,
        hyperparameters=HYPERPARAMETERS,
    )
    for index, (step, row) in enumerate(rows.items()):
        if index == len(rows) // 2:
            time.sleep(pause_seconds)
            if client_dies:
                kill_client()
        started = time.perf_counter()
        run.log_metrics(row, step=step)
        outcome.slowest_log_seconds = max(outcome.slowest_log_seconds, time.perf_counter() - started)
    if summary:
        run.summary(summary)
    if preempted:
        run.preempting()
    started = time.perf_counter()
    run.finish(status)
    outcome.finish_seconds = time.perf_counter() - started
    return outcome


@dataclass
class ReadBack:
    """A run as wandb.Api gives it."""

    id: str
    name: str
    state: str
    group: str
    job_type: str
    tags: list[str]
    config: dict[str, Any]
    summary: dict[str, Any]
    rows: list[dict[str, Any]]
    """Without the client's own columns, except `_step`."""


def read_back(environment: Environment, project: str, filters: dict[str, Any] | None = None, order: str = "+created_at") -> list[ReadBack]:
    """The runs of a project, through wandb.Api."""
    os.environ.update(environment)
    import wandb

    return [
        ReadBack(
            run.id,
            run.name,
            run.state,
            run.group,
            run.job_type,
            list(run.tags),
            dict(run.config),
            {key: value for key, value in run.summary.items() if not key.startswith("_")},
            [{key: value for key, value in row.items() if key not in ("_runtime", "_timestamp")} for row in run.scan_history()],
        )
        for run in wandb.Api().runs(project, filters=filters, order=order)
    ]
