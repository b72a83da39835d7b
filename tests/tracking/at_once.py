"""Runs that log online at the same moment, each in a process of its own, to a server that is not up to it."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier

from harness.config.schema import Config
from harness.config.validate import to_plain
from harness.runs.directory import RunDirectory
from harness.runs.metrics import Row
from harness.runs.result import read_result
from harness.tracking import wandb_logger
from harness.tracking.identity import identity_of_run, tracking_of_run
from harness.tracking.run_summary import objective_of, summary_of
from harness.tracking.wandb_logger import WandbLogger
from tests.support.fake_wandb import FakeWandb
from tests.tracking.attempts import Environment, warm
from tests.tracking.studies import end, row

OUTAGE_SECONDS = 5.0

_start: Barrier | None = None


class Overrun:
    """Refuses every third request with 429 and every seventh with 500, of as many as it is given; and when half of the runs are there, it
    is dead for a while."""

    def __init__(self, backend: FakeWandb, *, runs: int, requests: int) -> None:
        self.said = {429: 0, 500: 0, 0: 0}
        self._backend = backend
        self._runs, self._requests = runs, requests
        self._count = itertools.count(1)
        self._lock = threading.Lock()
        self._dead_from: float | None = None

    def __call__(self, kind: str, name: str) -> int | None:
        with self._lock:
            number = next(self._count)
            if self._dead_from is None and len(self._backend.runs) >= self._runs // 2:
                self._dead_from = time.monotonic()
            if self._dead_from is not None and time.monotonic() < self._dead_from + OUTAGE_SECONDS:
                status = 0
            elif number <= self._requests and number % 3 == 0:
                status = 429
            elif number <= self._requests and number % 7 == 0:
                status = 500
            else:
                return None
            self.said[status] += 1
            return status


@dataclass
class Logged:
    """How a run went for its caller."""

    warnings: list[str] = field(default_factory=list)
    log_seconds: list[float] = field(default_factory=list)
    """Of each call of log_metrics."""


def log_at_once(
    runs: list[RunDirectory], environment: Environment, *, steps: int, step_seconds: float, finish_seconds: float
) -> list[Logged]:
    """All of the runs, begun at the same moment. step_seconds: what a step takes but for its logging."""
    start = warm.Barrier(len(runs))
    with ProcessPoolExecutor(len(runs), mp_context=warm, initializer=_initialize, initargs=(start,)) as pool:
        asked = [pool.submit(_log, run, environment, steps, step_seconds, finish_seconds) for run in runs]
        return [found.result(timeout=900) for found in asked]


def _initialize(start: Barrier) -> None:
    global _start
    _start = start


def _log(run: RunDirectory, environment: Environment, steps: int, step_seconds: float, finish_seconds: float) -> Logged:
    os.environ.update(environment)
    wandb_logger.FINISH_ONLINE_SECONDS = finish_seconds
    found = Logged()
    handler = logging.Handler()
    handler.emit = lambda record: found.warnings.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("harness.tracking").addHandler(handler)
    assert _start is not None
    # Nobody takes a second run before all have one, and so has a process to itself.
    _start.wait(timeout=600)
    logger = WandbLogger(tracking_of_run(run), identity=identity_of_run(run), directory=run.path, hyperparameters=to_plain(Config()))
    for step in range(steps):
        logged = row(step)
        run.metrics.append(logged)
        before = time.perf_counter()
        logger.log_metrics({key: value for key, value in logged.items() if key != "step"}, step=step)
        found.log_seconds.append(time.perf_counter() - before)
        time.sleep(step_seconds)
    end(run, "complete")
    logger.summary(summary_of(read_result(run), run.metrics.rows(), objective_of(run)))
    logger.finish("success")
    return found


def rows_of(run: RunDirectory) -> list[Row]:
    """Rows of its metrics.jsonl as W&B has them."""
    return [{"_step": row["step"], **{key: value for key, value in row.items() if key != "step"}} for row in run.metrics.rows()]
