"""Keys of a space for all entries of a mapping at once: model.merge.ingredients.*.weight is a parameter of each ingredient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.config.errors import InputError
from harness.config.nested import lookup

ALL = "*"


def spelt_out(space: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """The space with an entry for each name that a `*` stands for, of its conditions, too. base: the configuration of every trial, nested.

    Raises InputError where there is no such name.
    """
    found: dict[str, Any] = {}
    for key, spec in space.items():
        for name, spelt in _names(key, base):
            # What is said of one entry goes before what is said of all.
            if spelt == key or spelt not in space:
                found[spelt] = _conditions(spec, name) if name else spec
    return found


def _names(key: str, base: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each name that stands for the *, with the key that it makes; ("", key) where there is none."""
    before, star, after = key.partition(f".{ALL}.")
    if not star:
        yield "", key
        return
    entries = lookup(dict(base), before)
    if not isinstance(entries, Mapping) or not entries:
        raise InputError(
            f"space.{key}: {before} has no entries for * to stand for; valid: {before}.NAME.…=… on the command line or in base"
        )
    for name in entries:
        yield str(name), f"{before}.{name}.{after}"


def _conditions(spec: Any, name: str) -> Any:
    if not isinstance(spec, dict) or not isinstance(spec.get("when"), dict):
        return spec
    return {**spec, "when": {str(key).replace(f".{ALL}.", f".{name}."): value for key, value in spec["when"].items()}}
