"""What the progress of a run shows: nothing that is old as if it were new, and on any terminal the step and the time that is left."""

from __future__ import annotations

import io
import logging
import re
from unittest import mock

import pytest
from rich.console import Console

from harness.config.terminal import _Stderr
from harness.training.run_progress import LatestMetrics, RunProgress


def logged() -> LatestMetrics:
    metrics = LatestMetrics()
    metrics.log_metrics({"val/docs/loss": 7.651, "val/docs/bits_per_byte": 3.0}, step=0)
    metrics.log_metrics({"train/loss": 4.5, "lr": 1e-3, "tokens_per_second": 926.2}, step=10)
    return metrics


def test_an_old_evaluation_is_shown_with_its_step() -> None:
    metrics = logged()
    assert str(metrics) == "loss 4.5  lr 0.001  tokens/s 926.2  val/docs/loss 7.651 @0"
    metrics.log_metrics({"train/loss": 4.1, "lr": 1e-3, "tokens_per_second": 930.0, "val/docs/loss": 4.2}, step=20)
    assert str(metrics) == "loss 4.1  lr 0.001  tokens/s 930  val/docs/loss 4.2"


def test_a_line_repeats_no_evaluation() -> None:
    metrics = logged()
    assert metrics.news() == "loss 4.5  lr 0.001  tokens/s 926.2  val/docs/loss 7.651"
    metrics.log_metrics({"train/loss": 4.1}, step=20)
    assert metrics.news() == "loss 4.1  lr 0.001  tokens/s 926.2"
    metrics.log_metrics({"train/loss": 4.0, "val/docs/loss": 7.651}, step=30)
    assert metrics.news().endswith("val/docs/loss 7.651")


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_the_bar_keeps_step_and_time_left_in_any_width(columns: int) -> None:
    shown = io.StringIO()
    progress = RunProgress()
    progress.logger.log_metrics(logged().values, step=10)
    progress.bar.update(progress._steps, total=120, completed=10, visible=True)
    Console(file=shown, width=columns, force_terminal=True, color_system=None).print(progress.bar.get_renderable())
    bar, metrics = [line for line in shown.getvalue().splitlines() if line.strip()]
    assert re.search(r"train\s+10/120\s.*\d:\d\d:\d\d\s+(-:--:--|\d:\d\d:\d\d)", bar)
    assert metrics.startswith("loss 4.5  lr 0.001")
    assert len(metrics.rstrip()) <= columns


def test_a_message_goes_to_where_stderr_leads_at_that_moment() -> None:
    """While a bar is shown, sys.stderr is what puts lines above it."""
    handler, shown = _Stderr(), io.StringIO()
    with mock.patch("sys.stderr", shown):
        handler.emit(logging.makeLogRecord({"msg": "W&B is off"}))
    assert shown.getvalue() == "W&B is off\n"
