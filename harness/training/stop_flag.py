"""Asking a run to stop: a flag that is looked at between steps, never an exception in the middle of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

from harness.runs.signals import STOP_SIGNALS


class StopFlag:
    """Set by SIGTERM, SIGUSR2 and the first SIGINT; a second SIGINT is Python's own KeyboardInterrupt."""

    def __init__(self) -> None:
        self.is_set = False
        self.signal: int | None = None
        """By which signal it was set."""

    def install(self) -> None:
        """Take over the signals; again after Lightning, which installs handlers of its own when a fit begins.

        In a thread other than the main one, which alone may do so, nothing happens: a run that a program trains there is the program's
        to stop.
        """
        if threading.current_thread() is threading.main_thread():
            for number in (*STOP_SIGNALS, signal.SIGINT):
                signal.signal(number, self._handle)

    @contextmanager
    def installed(self) -> Iterator[Self]:
        """Take over the signals, and give them back: a notebook or a program goes on after a run."""
        previous = {number: signal.getsignal(number) for number in (*STOP_SIGNALS, signal.SIGINT)}
        self.install()
        try:
            yield self
        finally:
            if threading.current_thread() is threading.main_thread():
                for number, handler in previous.items():
                    signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True
        self.signal = number
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)


class RankZeroStops(StopFlag):
    """Of a rank that rank 0 has started: a signal to all processes of a terminal reaches it too, but what follows is for rank 0 to say."""

    def install(self) -> None:
        for number in (*STOP_SIGNALS, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
