"""A regular expression that is found in the text. Anybody may have written it: it is bounded in length and in time.

Python's own `re` cannot be interrupted; `regex`, which reads the same patterns, can.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import regex

from harness.evaluation.verifiers.verifier import BadReferenceError

log = logging.getLogger("harness")

MOST_CHARACTERS = 1_000
"""Of a pattern."""
SECONDS = 0.5
"""For one text; one that takes longer counts as wrong."""


def pattern_of(value: Any) -> str:
    """A pattern that compiles. Raises BadReferenceError."""
    if not isinstance(value, str) or not 0 < len(value) <= MOST_CHARACTERS:
        raise BadReferenceError(f"{str(value)[:60]!r}; valid: a regular expression of 1 to {MOST_CHARACTERS:,} characters")
    compiled(value)
    return value


@cache
def compiled(pattern: str) -> Any:
    """The pattern of `regex`. Raises BadReferenceError for what is none."""
    try:
        return regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError, MemoryError) as error:
        raise BadReferenceError(f"{pattern!r}: no regular expression: {error}") from error


def is_found(text: str, pattern: str, *, if_slow: bool = False) -> bool:
    """Whether the pattern is found anywhere in the text (^ and $ are its beginning and end); if_slow where that takes too long."""
    try:
        return _first(text, pattern) is not None
    except TimeoutError:
        return if_slow


def found_in(text: str, pattern: str) -> str | None:
    """What the pattern finds first: its first group, where it has one that takes part, else all of it; None where it finds nothing."""
    try:
        match = _first(text, pattern)
    except TimeoutError:
        return None
    if match is None:
        return None
    found: str = match[1] if match.re.groups and match[1] is not None else match[0]
    return found


def _first(text: str, pattern: str) -> Any:
    """Raises TimeoutError, which is said."""
    try:
        return compiled(pattern).search(text, timeout=SECONDS)
    except TimeoutError:
        _say_slow(pattern)
        raise


def all_found(text: str, pattern: str) -> list[Any]:
    """As `re.findall`; nothing where it takes too long."""
    try:
        return list(compiled(pattern).findall(text, timeout=SECONDS))
    except TimeoutError:
        _say_slow(pattern)
        return []


def replaced(text: str, pattern: str, by: str) -> str:
    """As `re.sub`; the text itself where it takes too long."""
    try:
        return str(compiled(pattern).sub(by, text, timeout=SECONDS))
    except TimeoutError:
        _say_slow(pattern)
        return text


@cache
def _say_slow(pattern: str) -> None:
    log.warning("the pattern %r takes more than %g s for a text: it counts as not found there; a simpler one is needed", pattern, SECONDS)
