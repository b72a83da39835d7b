"""From nested plain values to a typed section, or one error with every wrong key, its value and what is valid."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Hashable, Iterable
from functools import cache
from typing import Any, TypeVar

from harness.config.aliases import alias_of
from harness.config.errors import InputError, did_you_mean
from harness.config.introspect import alternatives, describe, fields_of, find, is_number, keys, siblings
from harness.config.nested import lookup
from harness.config.schema import Section

T = TypeVar("T")
MOST_NAMESAKES = 3
"""Of keys in other sections that end like an unknown one, that its message names."""


@cache
def _adapter(section: Hashable) -> Any:
    from pydantic import TypeAdapter  # 50 ms: not for --help and completion

    return TypeAdapter(section)  # type: ignore[arg-type]  # mypy takes a class for no Hashable, and Hashable for no type


def to_section(section: type[T], values: dict[str, Any], *, origin: Callable[[str], str | None] = lambda key: None) -> T:
    """Build `section` from nested plain values.

    origin: says where the value of a dotted key was given ("the command line", a file), or None for a default.
    Raises InputError with one line a problem.
    """
    from pydantic import ValidationError

    try:
        typed: T = _adapter(section).validate_python(values)  # type: ignore[arg-type]
    except ValidationError as error:
        seen: dict[str, str] = {}
        for problem in error.errors(include_url=False):
            key = ".".join(str(part) for part in _key(section, problem["loc"]))
            # A union reports one error an alternative; one line a key is enough.
            value = problem["input"] if len(problem["loc"]) == key.count(".") + 1 else lookup(values, key)
            seen.setdefault(key, _problem(section, key, problem["type"], value, origin))
        raise InputError("\n".join(seen.values())) from None
    flags = list(_flags_for_numbers(section, values))
    if flags:
        raise InputError("\n".join(_wrong(section, key, value, origin) for key, value in flags))
    return typed


def to_plain(section: Any) -> dict[str, Any]:
    """The nested plain values of a typed section (tuples become lists): what config.yaml holds."""
    return {field.name: plain(getattr(section, field.name)) for field in dataclasses.fields(section)}


def plain(value: Any) -> Any:
    """A copy in which tuples are lists, and sections mappings."""
    if isinstance(value, str | int | float | None):  # most are
        return value
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return to_plain(value) if dataclasses.is_dataclass(value) else value


def _key(section: type, location: tuple[int | str, ...]) -> list[str]:
    """The longest part of pydantic's location that is a key: what follows names a union's alternative or an element."""
    parts: list[str] = []
    for part in map(str, location):
        if parts and (above := find(section, ".".join(parts))) and above.is_open and len(alternatives(above.annotation)) > 1:
            break  # a mapping or something else: what follows names which of them
        if parts and not find(section, ".".join([*parts, part])):
            item = find(section, ".".join(parts))
            if item is not None and not (item.section or item.entries or dataclasses.is_dataclass(item.annotation)):
                break
        parts.append(part)
    return parts


def _problem(section: type, key: str, kind: str, value: Any, origin: Callable[[str], str | None]) -> str:
    item = find(section, key)
    if kind == "unexpected_keyword_argument":
        return unknown_key(section, key, origin=origin(key))
    if kind == "missing" and not isinstance(value, list):
        return f"{key}: required, {describe(item.annotation) if item else 'a value'}"
    return _wrong(section, key, value, origin)


def _wrong(section: type, key: str, value: Any, origin: Callable[[str], str | None]) -> str:
    item = find(section, key)
    place = origin(key)
    shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
    hint = _written_out(value) if item and is_number(item.annotation) else ""
    return f"{key}={shown}: expected {describe(item.annotation) if item else 'another value'}{hint}" + (
        f" (given in {place})" if place else ""
    )


def _written_out(value: Any) -> str:
    """For a number with a unit, how it is written here: "; 1B is written 1e9"."""
    exponents = {"k": 3, "m": 6, "b": 9, "g": 9, "t": 12}
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmbgt])", str(value).lower())
    return f"; {value} is written {found[1]}e{exponents[found[2]]}" if found else ""


def unknown_key(section: type, key: str, *, origin: str | None = None) -> str:
    """The message for a key that the schema does not have: the nearest valid key, and the keys of its section."""
    parent, names = siblings(section, key)
    wrong = key.removeprefix(parent).lstrip(".").split(".")[0]
    last = key.rpartition(".")[2]
    elsewhere = [own for own, _ in keys(section) if own.rpartition(".")[2] == last]
    meant = alias_of(key) or (" or ".join(elsewhere) if len(elsewhere) <= MOST_NAMESAKES else None)
    return (
        f"unknown key {key!r}"
        + (f" (given in {origin})" if origin else "")
        + "."
        + (f" It is {meant} here." if meant else did_you_mean(wrong, names, prefix=f"{parent}." if parent else ""))
        + f" Valid{f' in {parent}' if parent else ''}: {', '.join(names)}."
    )


def _flags_for_numbers(section: type, values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Pydantic takes `true` for 1.0; a learning rate of `true` is a mistake."""
    found: list[tuple[str, Any]] = []
    for name, item in fields_of(section).items():
        value = values.get(name)
        if isinstance(value, dict):
            if item.section:
                found += _flags_for_numbers(item.section, value, f"{prefix}{name}.")
            elif item.entries:
                for entry, below in value.items():
                    found += _flags_for_numbers(item.entries, below, f"{prefix}{name}.{entry}.") if isinstance(below, dict) else []
        elif isinstance(value, bool) and "true or false" not in describe(item.annotation) and not item.is_open:
            found.append((prefix + name, value))
    return found


def refuse_unread(config: Section, keys: Iterable[str]) -> None:
    """Raise InputError for a given key that the chosen kind never reads: `schedule=cosine schedule.decay_fraction=0.3` is a mistake."""
    for key in keys:
        item = find(type(config), key)
        if item is None or not item.only_for:
            continue
        group = item.deciding_group(key)
        kind = getattr(getattr(config, group), "name", None)
        if kind not in item.only_for:
            raise InputError(f"{key} has no effect with {group}.name={kind}: only {', '.join(item.only_for)} reads it")
