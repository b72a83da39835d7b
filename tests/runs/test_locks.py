"""Locks tell the living from the dead."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.runs.directory import RunDirectory
from harness.runs.locks import hold, is_held

HOLDER = """
import sys, time
from pathlib import Path
from harness.runs.locks import hold
lock = hold(Path(sys.argv[1]))
print("held" if lock else "refused", flush=True)
time.sleep(60)
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_only_one_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "runs" / ".lock"
    assert not is_held(path)
    with holder(path):
        assert is_held(path)
        assert hold(path) is None
        assert hold(path, wait_seconds=0.05) is None


def test_it_goes_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with holder(path) as process:
        process.kill()  # SIGKILL: nothing of it can tidy up
        process.wait()
        assert not is_held(path)
        lock = hold(path)
        assert lock is not None
        lock.release()


def test_it_can_be_taken_again(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    for _ in range(3):
        lock = hold(path)
        assert lock is not None
        lock.release()
        assert not is_held(path)


def test_looking_does_not_take_it(tmp_path: Path) -> None:
    """Status looks while a worker may want it at any moment."""
    run = RunDirectory(tmp_path)
    assert not run.is_attempted()
    lock = hold(run.attempt_lock)
    assert lock is not None
    lock.release()
    assert not run.is_attempted()
    assert hold(run.attempt_lock) is not None
