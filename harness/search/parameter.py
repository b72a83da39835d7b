"""One dimension of a space: its values, how Optuna has them, and those that stand for all."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.trial import Trial

Primitive = None | bool | int | float | str
TRIED = 7
"""Values inside a range that stand for all of them."""
MOST_TRIED = 32
"""A range of no more values than this is looked at as a whole."""


@dataclass(frozen=True)
class Parameter:
    """One dimension of a space: a range (low, high) or choices."""

    key: str
    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    step: float | int | None = None
    multiple_of: float | int | None = None
    """What lies between is moved to the nearest multiple. On a linear scale it is the step, too."""
    choices: tuple[Any, ...] = ()
    ordered: bool = False
    """The choices stand in an order: models learn from neighbours. To Optuna they are their places, 0, 1, …"""
    when: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Active only while each of these parameters has one of these values."""
    is_group: bool = False
    """The choices are of a configuration group, not values of a key."""
    is_integer: bool = False

    @property
    def chooses(self) -> tuple[str, ...]:
        """What a choice decides besides its own key: the kind of a group."""
        return (f"{self.key}.name",) if self.is_group else ()

    def is_active(self, values: dict[str, Any]) -> bool:
        """Whether this parameter takes part, given the values of those that come before it."""
        return all(key in values and values[key] in allowed for key, allowed in self.when.items())

    def suggest(self, trial: Trial) -> Any:
        """Let an Optuna trial choose a value."""
        if self.ordered:
            return self.choices[trial.suggest_int(self.key, 0, len(self.choices) - 1)]
        if self.choices:
            named = dict(zip(labels(self.choices), self.choices, strict=True))
            return named[trial.suggest_categorical(self.key, list(named))]
        low, high = self.bounds
        if self.is_integer:
            number = trial.suggest_int(self.key, int(low), int(high), step=int(self.step or 1), log=self.log)
            return number if self.multiple_of is None else self.nearest(number)
        value = trial.suggest_float(self.key, low, high, step=self.step, log=self.log)
        return value if self.step is None and self.multiple_of is None else self.nearest(value)

    def in_optuna(self, value: Any) -> Any:
        """A value as Optuna's record has it."""
        if self.ordered:
            return self.choices.index(value)
        return _label(value) if self.choices else value

    @property
    def bounds(self) -> tuple[float, float]:
        """The ends of a range."""
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high

    def at(self, share: float) -> float:
        """The value at a share (0 to 1) of a range, of its logarithm on a log scale; not yet on its grid."""
        low, high = self.bounds
        return low * (high / low) ** share if self.log else low + (high - low) * share

    def drawn(self, generator: random.Random) -> Any:
        """A uniform draw from the range (of its logarithm on a log scale) or the choices."""
        return generator.choice(self.choices) if self.choices else self.nearest(self.at(generator.random()))

    def nearest(self, value: float, unit: int = 1) -> float | int:
        """The value of a range that lies nearest: within its ends, on its grid, and a multiple of `unit` besides, where it holds one."""
        low, high = self.bounds
        within = min(max(value, low), high)
        if self.step is not None:
            within = _on_grid(low + round((within - low) / self.step) * self.step, low, self.step)
        elif self.multiple_of is not None:
            within = _on_grid(round(within / self.multiple_of) * self.multiple_of, 0, self.multiple_of)
        if unit > 1:
            common = math.lcm(unit, int(self.multiple_of or 1))
            first, last = math.ceil(low / common) * common, math.floor(high / common) * common
            within = min(max(round(within / common) * common, first), last) if first <= last else within
        return round(within) if self.is_integer else float(within)

    def holds(self, value: Any) -> bool:
        """Whether a trial may have this value."""
        if self.choices:
            return value in self.choices
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and math.isclose(self.nearest(value), value, rel_tol=1e-9)

    @property
    def domain(self) -> str:
        """What would be valid, in words."""
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        steps = f" in steps of {self.step}" if self.step is not None and self.multiple_of is None else ""
        return f"from {self.low} to {self.high}{steps}" + (f", multiples of {self.multiple_of}" if self.multiple_of is not None else "")

    @property
    def extremes(self) -> list[Any]:
        """Its ends or choices: what costs most is among them."""
        return list(self.choices) if self.choices else [self.low, self.high]

    @property
    def representatives(self) -> list[Any]:
        """Its choices, or values all over its range, the ends first: of few integers all of them, else some that are evenly spaced."""
        if self.choices:
            return list(self.choices)
        low, high = self.bounds
        step = self.step or (1 if self.is_integer else None)
        is_even = self.multiple_of is None or not self.log
        if step is not None and is_even and (high - low) / step <= MOST_TRIED:
            inner = [self.nearest(low + place * step) for place in range(1, round((high - low) / step))]
        else:
            inner = [self.nearest(self.at(place / (TRIED + 1))) for place in range(1, TRIED + 1)]
        return list(dict.fromkeys([*self.extremes, *inner]))


def labels(choices: Sequence[Any]) -> list[Primitive]:
    """Choices as categories of Optuna's."""
    return [_label(choice) for choice in choices]


def _label(choice: Any) -> Primitive:
    """Optuna's categories are primitives: a list becomes its JSON."""
    return choice if isinstance(choice, Primitive) else json.dumps(choice)


def _on_grid(value: float, low: float, step: float) -> float:
    """Without the binary rest of adding steps up: 0.3, not 0.30000000000000004."""
    decimals = max(0, *(-int(Decimal(str(part)).as_tuple().exponent) for part in (low, step)))
    return round(value, decimals)
