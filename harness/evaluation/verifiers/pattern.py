"""A regular expression that is found in the text. Anybody may have written it: it is bounded in length and in time.

Python's own `re` cannot be interrupted; `regex`, which reads the same patterns, can.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

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
    return _in_time(pattern, lambda it: it.search(text, timeout=SECONDS) is not None, if_slow)


def found_in(text: str, pattern: str) -> str | None:
    """What the pattern finds first: its first group, where it has one that takes part, else all of it; None where it finds nothing."""
    match = _in_time(pattern, lambda it: it.search(text, timeout=SECONDS), None)
    if match is None:
        return None
    found: str = match[1] if match.re.groups and match[1] is not None else match[0]
    return found


def all_found(text: str, pattern: str) -> list[Any]:
    """As `re.findall`; nothing where it takes too long."""
    return _in_time(pattern, lambda it: list(it.findall(text, timeout=SECONDS)), [])


def replaced(text: str, pattern: str, by: str) -> str:
    """As `re.sub`; the text itself where it takes too long."""
    return _in_time(pattern, lambda it: str(it.sub(by, text, timeout=SECONDS)), text)


Found = TypeVar("Found")


def _in_time(pattern: str, find: Callable[[Any], Found], if_slow: Found) -> Found:
    try:
        return find(compiled(pattern))
    except TimeoutError:
        _say_slow(pattern)
        return if_slow


@cache
def _say_slow(pattern: str) -> None:
    log.warning("the pattern %r takes more than %g s for a text: it counts as not found there; a simpler one is needed", pattern, SECONDS)
