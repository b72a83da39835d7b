"""The same text, but for white space around it: case, punctuation and white space inside count."""

from __future__ import annotations

from typing import Any

from harness.data.row import described
from harness.evaluation.verifiers.verifier import BadReferenceError


def text_of(value: Any) -> str:
    """A reference that is a text; numbers stand for theirs, as rows of CSV and JSON differ in it. Raises BadReferenceError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise BadReferenceError(f"{'an empty text' if isinstance(value, str) else described(value)}; valid: a text")
    return value.strip()


def is_same(text: str, reference: str) -> bool:
    return text.strip() == reference
