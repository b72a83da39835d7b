"""Python's `re`, as far as lm_eval's filters and metrics use it, bounded in time: anybody may have written the patterns of a task file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from harness.evaluation.verifiers.pattern import all_found, compiled, replaced

escape = re.escape


@dataclass(frozen=True)
class Pattern:
    """A compiled pattern."""

    pattern: str

    def findall(self, text: str) -> list[Any]:
        """Nothing where it takes too long."""
        return all_found(text, self.pattern)


def compile(pattern: str) -> Pattern:
    """Raises BadReferenceError (a ValueError) for what is no pattern."""
    compiled(pattern)
    return Pattern(pattern)


def findall(pattern: str, text: str) -> list[Any]:
    """Nothing where it takes too long."""
    return all_found(text, pattern)


def sub(pattern: str, by: str, text: str) -> str:
    """The text itself where it takes too long."""
    return replaced(text, pattern, by)
