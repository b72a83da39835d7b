"""Overrides of the command line, in Hydra's own grammar: parsed and checked against the schema before anything is composed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_origin

from harness.config.errors import InputError, unknown, wrong_value
from harness.config.introspect import Field, alternatives, describe, find
from harness.config.locations import choices, groups
from harness.config.validate import unknown_key

COMMAND_LINE = "the command line"


@dataclass(frozen=True)
class GroupOverride:
    """`schedule=wsd`: the choice of a configuration group."""

    group: str
    choice: str | None

    def to_hydra(self) -> str:
        return f"{self.group}={'null' if self.choice is None else self.choice}"


@dataclass(frozen=True)
class ValueOverride:
    """`optim.lr=1e-3`: a value. `text` is the override as given."""

    key: str
    value: Any
    text: str

    def to_hydra(self) -> str:
        # The schema knows every key, so whether the composed YAML already holds it makes no difference to the user.
        return "++" + self.text.lstrip("+")


@dataclass(frozen=True)
class Deletion:
    """`~trainer.callbacks.stop`: takes a key out."""

    text: str

    def to_hydra(self) -> str:
        return self.text


Override = GroupOverride | ValueOverride | Deletion


def key_of(text: str) -> str:
    """The key or group of an override as it was typed."""
    return text.lstrip("+~").partition("=")[0]


def value_of(text: str) -> Any:
    """The value of KEY=VALUE, whatever its key looks like. Raises InputError for one that is none in Hydra's grammar, or several."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(f"value={text.partition('=')[2]}")
    except HydraException as error:
        raise _unreadable(text, error) from None
    _refuse_several(text, override)
    return _plain(override.value())


def _refuse_several(text: str, override: Any, item: Field | None = None) -> None:
    """item: the field that the override sets."""
    if not override.is_sweep_override():
        return
    key, _, value = text.partition("=")
    parts = alternatives(item.annotation) if item else []
    ways = [f"'{key}=[{value}]' if it is a list"] if any(get_origin(part) is list for part in parts) else []
    quoted = _in_quotes(text) if str in parts else None
    ways += [f"{quoted} if it is one text"] if quoted else []
    raise InputError(
        f"{text!r} asks for several values: declare them as a space in a sweep file and run `harness sweep`"
        + (f"; or give {', or '.join(ways)}" if ways else "")
    )


def _unreadable(text: str, error: Exception) -> InputError:
    """The error for an override that Hydra cannot read."""
    cause = str(error).splitlines()[0]
    if text.startswith("--"):
        return InputError(f"{text!r}: no option of this command; overrides are KEY=VALUE, without dashes: {text.lstrip('-')}")
    quoted = _in_quotes(text)
    valid = f"put the value in quotes: {quoted}" if quoted else "overrides are KEY=VALUE in Hydra's grammar, e.g. optim.lr=1e-3"
    return InputError(f"cannot read the override {text!r}: {cause}; {valid}")


def _in_quotes(text: str) -> str | None:
    """The override as a shell takes it when its value is text; None where the value does not help, or is a list or a mapping."""
    from hydra.errors import HydraException

    key, _, value = text.partition("=")
    if not value or value[0] in "[{'\"":
        return None
    quoted = f"{key}={hydra_text(value)}"
    try:
        read_by_hydra(quoted)
    except HydraException:
        return None
    return f"'{key}=\"{value}\"'" if not re.search(r"['\"\\]", value) else shlex.quote(quoted)


@lru_cache(maxsize=1024)
def read_by_hydra(text: str) -> Any:
    """Hydra's object for an override; not to be changed. Raises HydraException. Reading takes longer than most else of a composition, and a
    sweep composes the same overrides for each choice of a group."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(text)


def parse(texts: list[str], schema: type, *, given_by: str = COMMAND_LINE) -> list[Override]:
    """Parse overrides and check that each names a key of `schema` or a choice of a group that exists. Raises InputError.

    given_by: what messages call their place.
    """
    if not texts:  # as every attempt on a trial: importing Hydra takes as long as all else before its first step
        return []
    from hydra.errors import HydraException

    known_groups = groups()
    parsed: list[Override] = []
    for text in texts:
        try:
            override = read_by_hydra(text)
        except HydraException as error:
            raise _unreadable(text, error) from None
        _refuse_several(text, override, find(schema, override.key_or_group))
        if override.is_delete():
            parsed.append(Deletion(text))
            continue
        key, value = override.key_or_group, override.value()
        item = find(schema, key)
        if key in known_groups:
            if value is not None and not isinstance(value, str):
                raise wrong_value(key, _plain(value), f"a configuration group; valid: {', '.join(choices(key))}")
            if value is not None and value not in choices(key):
                raise _unknown_choice(schema, key, value)
            parsed.append(GroupOverride(key, value))
        elif item is not None:
            holds_keys = item.section is not None or _is_mapping(schema, key, item)
            if holds_keys != isinstance(value, dict) and (holds_keys or not item.is_open):
                raise wrong_value(key, "null" if value is None else _plain(value), f"expected {describe(item.annotation)}")
            parsed.append(ValueOverride(key, _plain(value), text))
        else:
            top = "" if "." in key else f" Groups: {', '.join(known_groups)}."
            raise InputError(unknown_key(schema, key, origin=given_by) + top)
    return parsed


def _is_mapping(schema: type, key: str, item: Field) -> bool:
    """Whether a key, whose field `find` gave, is a mapping itself rather than something below an open one."""
    above = find(schema, key.rpartition(".")[0])
    return item.is_open and len(alternatives(item.annotation)) == 1 and not (above and above.is_open)


def replaced_keys(overrides: Iterable[Override]) -> set[str]:
    """The keys whose value in a file does not count, since another is given; a mapping is merged with the file's."""
    return {one.key for one in overrides if isinstance(one, ValueOverride) and not isinstance(one.value, dict)}


def _unknown_choice(schema: type, group: str, choice: str) -> InputError:
    error = unknown(f"choice for {group}=", choice, choices(group))
    if find(schema, f"{group}.path") and "pretrained" in choices(group):
        return InputError(f"{error} A directory or a name on the hub is given as {group}=pretrained {group}.path={choice}")
    return error


def _plain(value: Any) -> Any:
    """Hydra keeps quoted strings as objects of its own; str() of them is their content."""
    from hydra.core.override_parser.types import QuotedString

    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return {_plain(name): _plain(item) for name, item in value.items()} if isinstance(value, dict) else value


def hydra_text(value: Any) -> str:
    """A plain value in the grammar of overrides."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            # In Hydra's quotes a backslash is one, except before a quote.
            return "'" + re.sub(r"(\\*)'", r"\1\1\'", re.sub(r"(\\+)$", r"\1\1", value)) + "'"
        case list() | tuple():
            return "[" + ", ".join(map(hydra_text, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{_hydra_name(key)}: {hydra_text(item)}" for key, item in value.items()) + "}"
        case _:
            return repr(value)


def _hydra_name(name: Any) -> str:
    """A mapping's name in the grammar of overrides, which has no quotes there."""
    return re.sub(r"([\\()\[\]{}:=, \t])", r"\\\1", name) if isinstance(name, str) else repr(name)
