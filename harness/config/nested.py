"""Nested mappings by dotted key: optim.lr is {"optim": {"lr": …}}."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.config.errors import InputError


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf; an empty mapping is one, and one with a name that no dotted key can say ("a.b", 1)."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value and all(isinstance(below, str) and "." not in below for below in value):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def lookup(values: Any, key: str) -> Any:
    """The value or section at a dotted key; None where there is none."""
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def set_value(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key, making the mappings on its way. Raises InputError where something else is on it."""
    *parents, last = key.split(".")
    for depth, parent in enumerate(parents):
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise InputError(f"{key}: {'.'.join(parents[: depth + 1])} holds a value there, and no keys; valid: a mapping")
    values[last] = value
