"""The time, as a process needs it that measures how long something takes, and writes down when."""

from __future__ import annotations

import time

_STARTED = time.time() - time.monotonic()


def now() -> float:
    """Seconds since the epoch by this process's own count: a clock that is set, by hand or after a suspension, does not move it."""
    return _STARTED + time.monotonic()
