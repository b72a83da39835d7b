"""Bad input: the one exception that the command line turns into a clear message and exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class InputError(Exception):
    """Something that the user gave is wrong. The message says what, where, and what would be valid; no traceback is shown for it."""


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate closest to a misspelt word, or None when nothing is close."""
    found = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.55)
    return found[0] if found else None


def unknown(what: str, given: str, candidates: Iterable[str], *, where: str = "") -> InputError:
    """The error for a name that is not among those that exist: names it, the nearest one, and all that would be valid."""
    names = sorted(candidates)
    guess = nearest(given, names)
    hint = f" Did you mean {guess!r}?" if guess else ""
    valid = f" Valid: {', '.join(names)}." if names else " There are none."
    return InputError(f"{where + ': ' if where else ''}unknown {what} {given!r}.{hint}{valid}")


def wrong_value(key: str, value: Any, problem: str, *, where: str = "") -> InputError:
    """The error for a key whose value cannot be used; `problem` says what would be valid."""
    return InputError(f"{where + ': ' if where else ''}{key}={value}: {problem}")
