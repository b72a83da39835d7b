"""Loggers of a run's rows of metrics, besides metrics.jsonl."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from harness.runs.metrics import Row


class MetricLogger(Protocol):
    """A progress bar, W&B. Lightning's own callbacks log through it as well (see `harness.training.trainer`)."""

    def log_metrics(self, metrics: Mapping[str, float | None], step: int | None = None) -> None: ...


def log_row(loggers: Iterable[MetricLogger], row: Row) -> None:
    """Log a row, with its step."""
    for logger in loggers:
        logger.log_metrics({key: value for key, value in row.items() if key != "step"}, step=row["step"])
