"""Workers as processes of this machine: replaced when they die, not when they end or cannot work at all, and heard when they complain."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.launch import local
from harness.launch.local import MAX_QUICK_DEATHS_PER_WORKER, LocalWorkers
from harness.runs.directory import StudyDirectory

Fake = Callable[[str], None]


@pytest.fixture
def worker_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fake:
    """Makes `harness worker` this code."""
    original = subprocess.Popen

    def fake(code: str) -> None:
        started = f"open({str(tmp_path / 'started')!r}, 'a').write('x'); "

        def popen(command: list[str], **keywords: Any) -> Any:
            assert command[1:4] == ["-m", "harness", "worker"]
            return original([sys.executable, "-c", started + code], **keywords)

        monkeypatch.setattr(local.subprocess, "Popen", popen)

    return fake


def count_started(tmp_path: Path) -> int:
    started = tmp_path / "started"
    return len(started.read_text()) if started.exists() else 0


def tend_to_the_end(workers: LocalWorkers, *, replace: bool = True) -> None:
    deadline = time.monotonic() + 30
    while workers.tend(replace=replace):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("code", [0, 2])
def test_workers_that_end_are_not_replaced(worker_is: Fake, tmp_path: Path, code: int) -> None:
    worker_is(f"raise SystemExit({code})")
    tend_to_the_end(LocalWorkers(StudyDirectory(tmp_path), 2))
    assert count_started(tmp_path) == 2


def test_workers_that_keep_dying_are_given_up(worker_is: Fake, tmp_path: Path) -> None:
    worker_is("import sys; print('no such library', file=sys.stderr); sys.exit(1)")
    log = tmp_path / "workers" / "log.txt"
    log.parent.mkdir()
    log.write_text("of an earlier start\n")
    workers = LocalWorkers(StudyDirectory(tmp_path), 2)
    tend_to_the_end(workers)
    assert count_started(tmp_path) == 2 + 2 * MAX_QUICK_DEATHS_PER_WORKER
    assert workers.last_words(3) == ["no such library"] * 3
    assert "of an earlier start" not in workers.last_words(100)


def test_workers_that_die_now_and_then_are_always_replaced(worker_is: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "QUICK_DEATH_SECONDS", 0.0)
    worker_is("import os; os.kill(os.getpid(), 9)")
    workers = LocalWorkers(StudyDirectory(tmp_path), 1)
    deadline = time.monotonic() + 30
    while count_started(tmp_path) < 3 * MAX_QUICK_DEATHS_PER_WORKER:
        assert workers.tend(replace=True) == 1
        assert time.monotonic() < deadline
        time.sleep(0.02)
    tend_to_the_end(workers, replace=False)


def test_workers_leave_when_asked_and_when_killed(worker_is: Fake, tmp_path: Path) -> None:
    worker_is("import time; time.sleep(60)")
    for end in (LocalWorkers.ask_to_stop, LocalWorkers.kill):
        workers = LocalWorkers(StudyDirectory(tmp_path), 2)
        assert workers.tend(replace=True) == 2
        end(workers)
        tend_to_the_end(workers, replace=False)


def test_an_interrupt_from_the_keyboard_does_not_reach_workers(worker_is: Fake, tmp_path: Path) -> None:
    worker_is(f"import os; open({str(tmp_path / 'session')!r}, 'w').write(str(os.getsid(0) == os.getpid()))")
    tend_to_the_end(LocalWorkers(StudyDirectory(tmp_path), 1))
    assert (tmp_path / "session").read_text() == "True"
