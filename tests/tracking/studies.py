"""Studies and runs whose attempts do all but train: own files and the real client, in processes that are forked from a warm server."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from harness.config.schema import Config
from harness.config.validate import to_plain
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.files import write_yaml
from harness.runs.metrics import last_values
from harness.runs.result import State, Tokens, read_result, write_result
from harness.runs.trial import Trial, write_trial
from harness.tracking import wandb_logger
from harness.tracking.identity import identity_of_run, tracking_of_run
from harness.tracking.run_summary import objective_of, summary_of
from harness.tracking.wandb_logger import WandbLogger
from tests.tracking.attempts import warm

Environment = dict[str, str]

METRIC = "val/docs/loss"
SWEEP: dict[str, Any] = {
    "name": "question",
    "launched": "2026-01-01T00:00:00",
    "objective": {"metric": METRIC, "direction": "minimize"},
    "space": {"optim.lr": {"low": 1e-5, "high": 1e-1, "log": True}},
    "search": {"name": "tpe"},
    "budget": {"trials": 4},
    "launcher": {"workers": 1},
    "largest_trial_tokens": 1000,
}
FLUSHED_SECONDS = 3.0
"""After so long, what the client was given is in its log."""


def study_in(directory: Path, *, tracking: dict[str, Any] | None = None, **sections: Any) -> StudyDirectory:
    """sections: of the sweep, instead of those above."""
    study = StudyDirectory(directory / "question")
    config = to_plain(Config())
    write_yaml(study.sweep, {**SWEEP, **sections, "config": {**config, "tracking": {**config["tracking"], **(tracking or {})}}})
    return study


def trial_in(study: StudyDirectory, number: int, *, lr: float = 1e-3, tracking: dict[str, Any] | None = None) -> RunDirectory:
    run = study.trial(number)
    write_trial(run, Trial(number=number, params={"optim.lr": lr}, tokens=1000))
    write_config(run, lr=lr, tracking=tracking)
    return run


def write_config(run: RunDirectory, *, lr: float = 1e-3, tracking: dict[str, Any] | None = None) -> None:
    config = to_plain(Config())
    config["optim"]["lr"] = lr
    config["tracking"] |= tracking or {}
    write_yaml(run.config, config)


def row(step: int, attempt: int = 1) -> dict[str, Any]:
    """Of a metrics.jsonl; what an attempt measures, not what it trains, differs between attempts."""
    evaluated = {METRIC: 2 / (step + 1), "val/docs/forgetting": step / 1000} if step % 5 == 0 else {}
    return {"step": step, "tokens": 100 * step, "train/loss": 1 / (step + 1), "tokens_per_second": 1000.0 * attempt, **evaluated}


def end(run: RunDirectory, state: State, *, attempts: int = 1) -> None:
    """What training and settling write at the end of an attempt."""
    rows = run.metrics.rows()
    result = read_result(run)
    result.state, result.attempts, result.metrics = state, attempts, last_values(rows)
    result.step = rows[-1]["step"] if rows else 0
    result.tokens = Tokens(trained=100 * result.step)
    if run.study and state == "complete":
        result.objective = result.metrics[METRIC]
    write_result(run, result)


def attempt_steps(run: RunDirectory, environment: Environment, first: int, last: int, attempt: int, state: State | None) -> None:
    """One attempt over these steps, both included; without a `state` it is killed at the end of the last one."""
    os.environ.update(environment)
    logger = WandbLogger(tracking_of_run(run), identity=identity_of_run(run), directory=run.path, hyperparameters=to_plain(Config()))
    for step in range(first, last + 1):
        logged = row(step, attempt)
        run.metrics.append(logged)
        logger.log_metrics({key: value for key, value in logged.items() if key != "step"}, step=step)
    if state is None:
        assert logger._run is not None
        client_has_all = threading.Event()
        logger._run.ensure(lambda _: client_has_all.set())
        assert client_has_all.wait(60), "the client has not started"
        time.sleep(FLUSHED_SECONDS)
        # What comes now has no time to be flushed.
        for step in range(last + 1, last + 3):
            run.metrics.append(row(step, attempt))
            logger.log_metrics(row(step, attempt), step=step)
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        end(run, state, attempts=attempt)
        if state == "waiting":
            logger.preempting()
        logger.summary(summary_of(read_result(run), run.metrics.rows(), objective_of(run)))
        logger.finish("success" if state != "failed" else "failed", is_complete=state == "complete")


def attempted(run: RunDirectory, environment: Environment, first: int, last: int, *, attempt: int = 1, state: State | None) -> None:
    """An attempt in a process of its own."""
    process = warm.Process(target=attempt_steps, args=(run, environment, first, last, attempt, state))
    process.start()
    process.join(timeout=60)
    assert process.exitcode == (0 if state else -signal.SIGKILL)


def crowded(run: RunDirectory, environment: Environment) -> list[str]:
    """One attempt with room for five rows that logs forty at once; what was said."""
    os.environ.update(environment)
    wandb_logger.QUEUE_ROWS = 5
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("harness.tracking").addHandler(handler)
    attempt_steps(run, environment, 0, 39, 1, "complete")
    return said
