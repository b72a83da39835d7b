"""Numbers, token counts and names as text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness.evaluation.kinds import metric_of

ABSENT = "—"
"""Of a parameter: not active, which is not null."""


DIGITS = 3
"""Significant ones of a parameter, where they tell its values apart."""


def value_text(value: Any, *, log: bool = False, digits: int = DIGITS) -> str:
    """A parameter's value: floats with three significant digits; small ones, and all of a `log` parameter, as 3.2e-03; whole ones as they
    are."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 1e9:
            return f"{value:.0f}"
        return _scientific(value, digits) if log or abs(value) < 1e-2 else _plain(value, digits)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(value_text(item, digits=digits) for item in value) + "]"
    return str(value)


def _scientific(value: float, digits: int) -> str:
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{exponent}"


def _plain(value: float, digits: int) -> str:
    return f"{value:.0f}" if 10**digits <= abs(value) < 1e6 else f"{value:.{digits}g}"


def digits_apart(values: Sequence[Any], *, log: bool = False) -> int:
    """The fewest significant digits, from three, with which as many of the values differ as with all digits."""
    differ = [len({value_text(value, log=log, digits=digits) for value in values}) for digits in range(DIGITS, 18)]
    return DIGITS + differ.index(differ[-1])


def digits_of(domain: Mapping[str, Any]) -> int:
    """The digits that tell apart the choices of a parameter, or the ends of its range."""
    values = domain.get("choices") or [domain[end] for end in ("low", "high") if end in domain]
    return digits_apart(values, log=bool(domain.get("log")))


def metric_text(value: float | None) -> str:
    """A loss or another metric: four decimals, since differences of a thousandth of a nat matter."""
    if value is None or not math.isfinite(value):
        return ABSENT
    value += 0.0  # of a negative zero
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.2e}"


def count_text(count: float) -> str:
    """A number of tokens, or of another unit: 0.5, 512, 16.4k, 2.1M, 1.3B."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g}{unit}" if count / size < 999.5 else f"{count / size:.0f}{unit}"
    return f"{count:.0f}" if count >= 100 else f"{count:.3g}"


def duration_text(seconds: float) -> str:
    """A wall time: 4.2s, 3m10s, 1h02m, 3d04h."""
    if seconds < 60:
        return f"{seconds:.1f}s" if seconds < 10 else f"{seconds:.0f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h{minutes:02d}m"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours:02d}h"


_UNITS = {"train/loss": "nats per token", "tokens_per_second": "tokens/s"}
"""Of metrics that no evaluation logs."""


def with_unit(metric: str) -> str:
    """A metric by its logged name, with its unit where that is known: val/docs/loss (nats per token)."""
    evaluated = metric_of(metric)
    unit = evaluated.unit if evaluated else _UNITS.get(metric)
    return f"{metric} ({unit})" if unit else metric


def bound_text(bound: dict[str, float]) -> str:
    """A constraint: ≤ 0.3, or ≤ 0.3 with chance 0.9."""
    limits = ", ".join(f"{sign} {value_text(bound[side])}" for side, sign in (("max", "≤"), ("min", "≥")) if side in bound)
    return f"{limits} with chance {value_text(bound['chance'])}" if "chance" in bound else limits


def short_names(keys: Sequence[str], metrics: Sequence[str] = ()) -> dict[str, str]:
    """For each dotted key its last part, for each metric what stands behind its kind; all of it if that is ambiguous."""
    last = {key: key.rpartition(".")[2] for key in keys} | {metric: metric.partition("/")[2] or metric for metric in metrics}
    seen = Counter(last.values())
    return {key: key if seen[name] > 1 or name in ("name", "path") else name for key, name in last.items()}
