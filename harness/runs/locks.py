"""Locks that the kernel releases when their holder dies, however it dies: they tell the living from the dead."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

from filelock import FileLock, Timeout


def hold(path: Path, *, wait_seconds: float = 0.0, poll_seconds: float = 0.02) -> FileLock | None:
    """Take the lock at `path` and keep it until `.release()` or the end of this process; None if another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # thread_local=False: the lock belongs to the process, whichever of its threads lets go.
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=wait_seconds, poll_interval=poll_seconds)
    except Timeout:
        return None
    return lock


def hold_in_turn(path: Path, *, wait_seconds: float) -> FileLock | None:
    """Like `hold`, for a lock that many want all the time: those that wait get it in the order in which they came.

    Looking again and again, the lucky ones would get it many times before others get it once, and all the looking would keep the processor
    from the one that holds it.
    """
    deadline = time.monotonic() + wait_seconds
    turn = _Turn(turn_of(path))
    if not turn.take(wait_seconds):
        return None
    try:
        # One process alone looks, so that it may look often.
        return hold(path, wait_seconds=max(0.0, deadline - time.monotonic()), poll_seconds=0.002)
    finally:
        turn.pass_on()


def turn_of(path: Path) -> Path:
    """The lock of the next one to get the lock at `path`; the kernel has the others line up for it."""
    return path.with_name(f"{path.name}.turn")


class _Turn:
    """A lock that is waited for in the kernel, which no poll can do in order."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._settled = threading.Lock()
        self._given_up = False
        self._has_it = threading.Event()

    def take(self, wait_seconds: float) -> bool:
        """False when it did not come within this time."""
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # A thread, since a wait in the kernel has no limit of time, and signals are to be heard meanwhile.
            threading.Thread(target=self._wait, daemon=True, name="waits for its turn").start()
            self._has_it.wait(wait_seconds)
            with self._settled:
                self._given_up = not self._has_it.is_set()
        return not self._given_up

    def _wait(self) -> None:
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        with self._settled:
            if not self._given_up:
                self._has_it.set()
                return
        self.pass_on()

    def pass_on(self) -> None:
        # Not by closing alone: a process that was forked meanwhile has the file open, too.
        fcntl.flock(self._handle, fcntl.LOCK_UN)
        os.close(self._handle)


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock at `path`."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        # A shared lock: two that look at the same time do not take each other for the holder.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
