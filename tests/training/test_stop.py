"""Signals while the rest of a run is looked at in this process."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from harness.runs.exit_codes import DONE, STOPPED
from harness.runs.result import read_result
from harness.training.stop_flag import StopFlag
from harness.training.trainer import RunData
from harness.work.attempt import attempt
from tests.training.conftest import NewRun


def test_a_request_while_lightnings_handlers_are_in_place(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning takes over SIGTERM when a fit begins, and would end it with an exception of its own."""
    _, run = new_run("run")
    loader = RunData.train_dataloader

    def interrupted(self: RunData) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return loader(self)

    with monkeypatch.context() as patched:
        patched.setattr(RunData, "train_dataloader", interrupted)
        assert attempt(run) == STOPPED
    assert (read_result(run).state, read_result(run).step) == ("waiting", 0)
    assert not run.is_attempted()
    assert attempt(run) == DONE


def test_the_flag() -> None:
    stop = StopFlag()
    stop.install()
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.is_set
    stop = StopFlag()
    stop.install()
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.is_set
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
