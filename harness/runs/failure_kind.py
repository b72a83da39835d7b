"""Which failures are of one kind: their reasons are the same but for paths, steps and values."""

from __future__ import annotations

import re

_ATTEMPTS = re.compile(r" \(attempt \d+ of \d+\)$")
_VALUES = re.compile(
    r"""
      "[^"]*" | '[^']*' | `[^`]*`                      # quoted
    | (?<![\w.])(?:[\w.~-]*/)+[^\s,:;()]*              # a path, and a metric's name as well
    | (?<=[\w\]]=)[^\s:;,()]+                          # KEY=VALUE
    | [+-]?\b(?:0x[0-9a-f]+|\d[\d_,.]*(?:e[+-]?\d+)?)   # a number, without its unit
    | \b(?:nan|inf(?:inity)?)\b
    """,
    re.VERBOSE | re.IGNORECASE,
)


def kind_of_failure(reason: str) -> str:
    """The reason without what differs from trial to trial."""
    return " ".join(_VALUES.sub("*", _ATTEMPTS.sub("", reason)).split())
