"""Bad input: the one exception that the command line turns into a clear message and exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any


class InputError(Exception):
    """Wrong input. The message says what, where, and what would be valid; no traceback is shown."""


def did_you_mean(word: str, candidates: Iterable[str], *, prefix: str = "") -> str:
    """E.g. " Did you mean 'optim.lr'?", with the candidate closest to `word` behind `prefix`; "" if none is close."""
    found = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.55)
    return f" Did you mean {prefix + found[0]!r}?" if found else ""


def unknown(what: str, given: str, candidates: Iterable[str], *, where: str = "") -> InputError:
    """The error for an unknown name, with the nearest one and all valid ones."""
    names = sorted(candidates)
    valid = f" Valid: {', '.join(names)}." if names else " There are none."
    return InputError(f"{where + ': ' if where else ''}unknown {what} {given!r}.{did_you_mean(given, names)}{valid}")


def wrong_value(key: str, value: Any, problem: str, *, where: str = "") -> InputError:
    """The error for a key whose value cannot be used; `problem` says what would be valid."""
    return InputError(f"{where + ': ' if where else ''}{key}={value}: {problem}")


def in_short(error: BaseException) -> str:
    """An error of a library in one line: its kind, and the first line of what it says."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {said[:200]}" if said else type(error).__name__


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
