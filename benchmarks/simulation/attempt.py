"""An attempt that costs nothing: it leaves in a run's directory what training would, or dies in the ways that it can."""

from __future__ import annotations

import os
import signal

from harness.runs.directory import RunDirectory
from harness.runs.lifecycle import COMPLETE, STOPPED, Ending, EndingKind, LiveResult
from harness.runs.locks import hold


class FakeAttempt:
    """What training does to a run's files. Positions and lengths are in tokens of the run."""

    def __init__(self, run: RunDirectory, *, length: int, shared: int = 0, position: int | None = None) -> None:
        """Args: length of the run; shared, what it takes over from a trunk of others; position where it begins, else its checkpoint's."""
        self.run = run
        self.length = length
        lock = hold(run.attempt_lock, wait_seconds=5.0)
        assert lock is not None, f"{run.path}: two attempts at a time"
        self.lock = lock
        self._live = LiveResult(run)
        self._live.begin()
        self.result = self._live.result
        self.result.tokens.shared += shared
        self.result.tokens.budgeted = length - self.result.tokens.shared
        if position is not None:
            self.result.tokens.position = position
        self._live.running()

    def complete(self, metrics: dict[str, float]) -> int:
        """Train to the end. metrics: the last values."""
        self._trained_to(self.length)
        self.result.metrics = metrics
        return self._end(COMPLETE)

    def stop(self, position: int, metrics: dict[str, float] | None = None) -> int:
        """Save a checkpoint at this position and leave."""
        self._trained_to(position)
        self.result.metrics = metrics or self.result.metrics
        return self._end(STOPPED)

    def crash(self, reached: int, reason: str = "RuntimeError: boom", *, checkpoint: int | None = None) -> int:
        """Raise an exception at this position. checkpoint: where the next attempt goes on; by default where this one began."""
        self._trained_to(reached, position=self.result.tokens.position if checkpoint is None else checkpoint)
        return self._end(Ending(EndingKind.CRASHED, reason))

    def lose_its_disk(self, reached: int) -> int:
        """Find the disk full at this position."""
        self._trained_to(reached, position=self.result.tokens.position)
        return self._end(Ending(EndingKind.MACHINE_FAULT, "No space left on device"))

    def fail(self, reason: str) -> int:
        """End as bad input does: another attempt would not help."""
        return self._end(Ending(EndingKind.FAILED, reason))

    def save(self, position: int) -> None:
        """Save a checkpoint at this position and go on."""
        self._trained_to(position)
        self._live.running()

    def vanish(self, *, at: float | None = None) -> int:
        """Be killed; its last row says how far it got. at: when, in seconds since the epoch, if not now."""
        if at is not None:
            for path in (self.run.metrics.path, self.run.result):
                if path.exists():
                    os.utime(path, (at, at))
        self.lock.release()
        return -signal.SIGKILL

    def _trained_to(self, reached: int, *, position: int | None = None) -> None:
        self.result.tokens.trained += reached - self.result.tokens.position
        self.result.tokens.position = reached if position is None else position

    def _end(self, ending: Ending) -> int:
        self._live.end(ending)
        self.lock.release()
        return ending.exit_code
