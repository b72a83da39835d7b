"""File locks that the kernel releases when their process ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

from filelock import FileLock, Timeout

from harness.config.documents import DamagedError

LONGEST_QUESTION_SECONDS = 1.0
"""How long `hold` waits for processes that only ask. Asking takes microseconds; a process may be stopped while it asks."""


def hold(path: Path, *, wait_seconds: float = 0.0) -> FileLock | None:
    """Take the lock at `path` and keep it until `.release()` or the end of this process; None if another process holds it.

    Raises DamagedError where a directory or a link is in its place; OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # thread_local=False: the lock belongs to the process, whichever of its threads lets go.
    lock = FileLock(path, thread_local=False)
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            lock.acquire(timeout=max(0.0, deadline - time.monotonic()), poll_interval=0.02)
        except Timeout:
            # The lock cannot be taken while somebody asks, either (see is_held); that does not make them its holder.
            if is_held(path) or time.monotonic() > deadline + LONGEST_QUESTION_SECONDS:
                return None
            time.sleep(0.001)
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.ELOOP):
                raise
            raise DamagedError(path, "it is a directory or a link in the place of a lock") from None
        else:
            return lock


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock at `path`. It needs only the right to read the file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a stranger's study may have a pipe there
    except FileNotFoundError:
        return False
    try:
        # A shared lock, for an instant: unlike /proc/locks, this asks the server of a network file system as well.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
