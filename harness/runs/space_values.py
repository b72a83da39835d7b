"""A run's values of a sweep's space, read from its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.config.nested import lookup


def value_of(config: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key, None where there is none. A whole section stands for its kind, as a sweep chooses it: schedule → wsd."""
    value = lookup(config, key)
    return value.get("name") if isinstance(value, Mapping) else value


def is_active(domain: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    """Whether a parameter of this domain comes into play with these values: its `when` holds."""
    when: dict[str, Any] = domain.get("when") or {}
    return all(params.get(key) in (wanted if isinstance(wanted, list) else [wanted]) for key, wanted in when.items())


def values_in(config: Mapping[str, Any], space: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The values of the space's keys that the configuration has, without those that are not active in it."""
    values = {key: value for key in space if (value := value_of(config, key)) is not None}
    return {key: value for key, value in values.items() if is_active(space[key], values)}
