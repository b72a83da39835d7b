"""Asking a run to stop: a flag that is looked at between steps, never an exception in the middle of one."""

from __future__ import annotations

import signal
from types import FrameType

from harness.runs.signals import STOP_SIGNALS


class StopFlag:
    """Set by SIGTERM, SIGUSR2 and the first SIGINT; a second SIGINT is Python's own KeyboardInterrupt."""

    def __init__(self) -> None:
        self.is_set = False

    def install(self) -> None:
        """Take over the signals; again after Lightning, which installs handlers of its own when a fit begins."""
        for number in (*STOP_SIGNALS, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)


class RankZeroStops(StopFlag):
    """Of a rank that rank 0 has started: a signal to all processes of a terminal reaches it too, but what follows is for rank 0 to say."""

    def install(self) -> None:
        for number in (*STOP_SIGNALS, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
