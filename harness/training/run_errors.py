"""Errors that end an attempt, with a message that needs no traceback."""

from __future__ import annotations

from pathlib import Path

from harness.runs.lifecycle import Ending, EndingKind


class RunError(Exception):
    """An attempt ends here."""

    kind = EndingKind.CRASHED

    @property
    def ending(self) -> Ending:
        return Ending(self.kind, str(self))


class NonFiniteLossError(RunError):
    """The loss, or a weight, became NaN or infinite: another attempt would come to the same."""

    kind = EndingKind.FAILED


class CheckpointError(RunError):
    """A checkpoint cannot be written."""


class TrunkUnderWayError(RunError):
    """Another run trains just now what this one would train first, and is going to store it."""

    def __init__(self, message: str, lease_lock: Path) -> None:
        super().__init__(message)
        self.lease_lock = lease_lock
        """Held while the other run trains."""

    @property
    def ending(self) -> Ending:
        return Ending(EndingKind.NOT_BEGUN, str(self), str(self.lease_lock))


class ReservedTooLittleError(RunError):
    """The run would train more than was reserved for it: a trunk is gone that it was to go on from."""

    kind = EndingKind.RESERVED_TOO_LITTLE
