"""The server that attempts are forked from, when Slurm signals every process of a step."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from harness.runs.exit_codes import STOPPED
from harness.runs.signals import STOP_SIGNALS
from harness.search.attempts import AttemptServer


def leaves_when_asked(directory: str) -> int:
    asked: list[int] = []
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, frame: asked.append(number))
    Path(directory, "listens").touch()
    while not asked:
        time.sleep(0.01)
    return STOPPED


@pytest.mark.slow
@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_whatever_serves_attempts_outlives_a_signal_to_all(tmp_path: Path, number: signal.Signals) -> None:
    server = AttemptServer(leaves_when_asked, [])
    process = server.start(tmp_path)
    while not (tmp_path / "listens").exists():
        time.sleep(0.01)
    servants = [int(pid) for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()]
    python = [pid for pid in servants if b"multiprocessing" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(python) == 2, "the fork server and the resource tracker"
    for pid in python:
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, number)
    time.sleep(0.2)
    assert process.is_alive()
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(30)
    assert process.exitcode == STOPPED
