"""Why a run cannot go on, in a sentence that tells its owner enough: no traceback is needed."""

from __future__ import annotations


class RunError(Exception):
    """A run ends here."""


class NonFiniteLossError(RunError):
    """The loss, or a weight, became NaN or infinite: another attempt would come to the same."""


class CheckpointError(RunError):
    """A checkpoint cannot be written."""
