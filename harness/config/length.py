"""Lengths as users write them: a fraction of the run, steps, or tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from harness.config.errors import wrong_value

FORMS = 'a fraction of the run from 0 to 1 (0.1), a number of steps (100), or tokens ("2e6 tokens")'


@dataclass(frozen=True)
class Length:
    """A part of a run."""

    amount: float
    unit: Literal["fraction", "steps", "tokens"]

    def steps(self, *, total_steps: int, batch_tokens: int) -> int:
        """The length in whole optimizer steps."""
        match self.unit:
            case "fraction":
                return round(self.amount * total_steps)
            case "tokens":
                return round(self.amount / batch_tokens)
            case "steps":
                return int(self.amount)


def parse_length(key: str, value: int | float | str) -> Length:
    """Read a length: 0.1 and 1.0 are fractions, 100 is steps; "100 steps", "2e6 tokens" and "10%" say it themselves.

    Raises InputError naming `key`.
    """
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9][0-9_.eE+-]*)\s*(steps?|tokens?|%)\s*", value)
        if match is None:
            raise wrong_value(key, value, f"expected {FORMS}")
        try:
            amount = float(match[1])
        except ValueError:
            raise wrong_value(key, value, f"expected {FORMS}") from None
        if match[2] == "%":
            return _fraction(key, value, amount / 100)
        return Length(amount, "tokens" if match[2].startswith("token") else "steps")
    if isinstance(value, int):
        if value < 0:
            raise wrong_value(key, value, f"expected {FORMS}")
        return Length(value, "steps")
    return _fraction(key, value, value)


def _fraction(key: str, value: float | str, amount: float) -> Length:
    if amount > 1 and amount.is_integer():
        return Length(amount, "steps")
    if not 0 <= amount <= 1:
        raise wrong_value(key, value, f"expected {FORMS}")
    return Length(amount, "fraction")
