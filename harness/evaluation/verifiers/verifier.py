"""What a verifier is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class BadReferenceError(ValueError):
    """A reference that nothing can be compared with; the message says why and what would be valid."""


@dataclass(frozen=True)
class Verifier:
    """How a row's reference is read, and whether a text agrees with it."""

    reference: Callable[[Any], Any]
    """What texts are compared with, of the value that a row has. Raises BadReferenceError."""
    holds: Callable[[str, Any], bool]
    """Whether a text is right, given what `reference` made."""
    needs_reference: bool = True
    """Whether a row must have one; without, `reference` is given None."""
    several: bool = True
    """Whether an array of references means that any of them may be met."""
    fixed: Any = None
    """What all rows are compared with, as the configuration or its file has it; None where each row has its own."""
