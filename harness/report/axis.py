"""A parameter as an axis of parallel coordinates: positions and readable ticks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from harness.report.text import ABSENT, digits_apart, digits_of, value_text


@dataclass(frozen=True)
class Axis:
    positions: list[float]
    """One for each value given."""
    ticks: dict[float, str]

    @property
    def range(self) -> tuple[float, float]:
        places = [*self.positions, *self.ticks]
        low, high = min(places), max(places)
        return (low, high) if low < high else (low - 0.5, high + 0.5)


def is_numeric(domain: dict[str, Any], values: list[Any]) -> bool:
    """Whether the values are quantities rather than choices."""
    given = [value for value in values if value != ABSENT]
    return "choices" not in domain and all(isinstance(value, int | float) and not isinstance(value, bool) for value in given)


def parameter_axis(domain: dict[str, Any], values: list[Any]) -> Axis:
    """The axis of a parameter's values; ABSENT has a tick of its own."""
    if is_numeric(domain, values):
        return _numeric_axis(values, log=bool(domain.get("log")))
    digits = digits_of(domain)
    labels = [value_text(value, digits=digits) for value in values]
    order = [ABSENT, *(value_text(choice, digits=digits) for choice in domain.get("choices", []) if domain.get("ordered"))]
    in_order = sorted(set(labels), key=lambda label: (order.index(label) if label in order else len(order), _by_number(label)))
    places = {label: float(index) for index, label in enumerate(in_order)}
    return Axis([places[label] for label in labels], {place: label for label, place in places.items()})


def _by_number(label: str) -> tuple[float, str]:
    try:
        return float(label), label
    except ValueError:
        return math.inf, label


def _numeric_axis(values: list[Any], *, log: bool) -> Axis:
    given = [float(value) for value in values if value != ABSENT]
    ticks = {math.log10(tick): value_text(tick, log=True) for tick in log_ticks(min(given), max(given))} if log else {}
    ticks = ticks or named(linear_ticks(min(given), max(given)))
    places = [None if value == ABSENT else math.log10(value) if log else float(value) for value in values]
    if None not in places:
        return Axis([place for place in places if place is not None], ticks)
    low, high = min([*ticks, *(place for place in places if place is not None)]), max(ticks)
    apart = low - 0.15 * ((high - low) or 1.0)
    return Axis([apart if place is None else place for place in places], {apart: ABSENT, **ticks})


def named(ticks: list[float]) -> dict[float, str]:
    """With the digits that tell them apart."""
    digits = digits_apart(ticks)
    return {tick: value_text(tick, digits=digits) for tick in ticks}


def log_ticks(low: float, high: float) -> list[float]:
    """1, 3, 10, 30, …: from the last below `low` to the first above `high`."""
    # One decade more at both ends: log10 may round across a power of ten.
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    ticks = [float(f"{digit}e{exponent}") for exponent in exponents for digit in (1, 3)]
    below = [tick for tick in ticks if tick <= low]
    above = [tick for tick in ticks if tick >= high]
    return [tick for tick in ticks if max(below) <= tick <= min(above)]


def linear_ticks(low: float, high: float) -> list[float]:
    """About five round numbers around `low` to `high`."""
    if low == high:
        return [low]
    rough = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]
