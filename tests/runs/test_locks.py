"""Locks tell the living from the dead."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.config.documents import DamagedError
from harness.runs import locks
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
ASKER = """
import sys
from pathlib import Path
from harness.runs.locks import is_held
print("asking", flush=True)
while True:
    is_held(Path(sys.argv[1]))
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    with started(HOLDER, path, "held") as process:
        yield process


@contextmanager
def started(program: str, path: Path, says: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{says}\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.symlink_to("elsewhere")], ids=["directory", "link"])
def test_what_is_no_file_is_no_lock(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "lock")
    with pytest.raises(DamagedError, match=f"{tmp_path}/lock: damaged"):
        hold(tmp_path / "lock")
    assert not (tmp_path / "elsewhere").exists()


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


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".lock")
    assert not is_held(tmp_path / ".lock")


def test_looking_does_not_take_it(tmp_path: Path) -> None:
    """Status looks while a worker may want it at any moment."""
    run = RunDirectory(tmp_path)
    assert not run.is_attempted()
    lock = hold(run.attempt_lock)
    assert lock is not None
    lock.release()
    assert not run.is_attempted()
    assert hold(run.attempt_lock) is not None


@contextmanager
def asked(path: Path) -> Iterator[int]:
    """A question that takes as long as the block: a shared lock, as `is_held` takes it."""
    path.touch()
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_it_can_be_taken_while_somebody_asks(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with asked(path) as descriptor:
        done = threading.Timer(0.05, fcntl.flock, (descriptor, fcntl.LOCK_UN))
        done.start()
        lock = hold(path)
        done.join()
    assert lock is not None
    assert is_held(path)
    lock.release()


def test_who_asks_and_never_ends_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is stopped at that moment."""
    monkeypatch.setattr(locks, "LONGEST_QUESTION_SECONDS", 0.05)
    with asked(tmp_path / ".lock"):
        assert hold(tmp_path / ".lock") is None


def test_no_question_takes_it_from_who_wants_it(tmp_path: Path) -> None:
    """From other processes and from threads of this one, all the time."""
    path = tmp_path / ".lock"
    path.touch()
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            is_held(path)

    thread = threading.Thread(target=ask)
    with started(ASKER, path, "asking"):
        thread.start()
        try:
            for _ in range(300):
                lock = hold(path)
                assert lock is not None
                assert is_held(path)
                lock.release()
        finally:
            ended.set()
            thread.join()
