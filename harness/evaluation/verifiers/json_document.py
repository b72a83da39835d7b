"""JSON that a schema holds of: the whole text, or what stands in its first code fence (```json … ```).

A schema is anybody's, too: it refers to nothing but itself, and its patterns are bounded in time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from harness.config.documents import parse_json
from harness.evaluation.verifiers.pattern import is_found, pattern_of
from harness.evaluation.verifiers.verifier import BadReferenceError

FENCED = re.compile(r"```[ \t]*(?:json|JSON)?[ \t]*\n(.*?)\n[ \t]*```", re.DOTALL)
UNBOUNDED = ("patternProperties",)
"""Keywords whose patterns would be matched without a bound."""


def schema_of(value: Any) -> Any:
    """A validator of a JSON schema, given as such or as text. Raises BadReferenceError."""
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator, extend, validator_for
    from referencing import Registry

    schema = value
    if isinstance(value, str):
        try:
            schema = parse_json(value)
        except (ValueError, RecursionError) as error:
            raise BadReferenceError(f"a text that is no JSON: {error}; valid: a JSON schema") from error
    if not isinstance(schema, dict) or not schema:
        raise BadReferenceError(f"{str(schema)[:60]!r}; valid: a JSON schema, an object with keywords such as type or properties")
    try:
        _refuse_foreign(schema)
        kind = validator_for(schema, default=Draft202012Validator)
        kind.check_schema(schema)
        # Without a registry it would fetch what a schema refers to.
        validator = extend(kind, {"pattern": _pattern})(schema, registry=Registry())
        for instance in list[Any]([{}, [], "", 0, None]):
            validator.is_valid(instance)
    except SchemaError as error:
        raise BadReferenceError(f"no JSON schema: {error.json_path}: {error.message}") from error
    except RecursionError as error:
        raise BadReferenceError("a schema that refers to itself without end") from error
    return validator


def _refuse_foreign(schema: dict[str, Any]) -> None:
    """Raise BadReferenceError for a schema that refers to another one, or to nothing, or has what is not bounded."""
    anchors = {value for name, value in _keywords(schema) if name in ("$anchor", "$dynamicAnchor")}
    for name, value in _keywords(schema):
        if name in ("$ref", "$dynamicRef") and isinstance(value, str):
            if not value.startswith("#"):
                raise BadReferenceError(f"{name}: {value!r}; valid: references within the schema, such as #/$defs/name")
            if value[1:] not in anchors and not _has_place(schema, value[1:]):
                raise BadReferenceError(f"a schema whose reference leads nowhere: {value}")
        if name in UNBOUNDED or (name in ("$schema", "$id") and value is not schema.get(name)):
            raise BadReferenceError(f"the keyword {name}, which is not read here; valid: a schema without it")
        if name == "pattern" and isinstance(value, str):
            pattern_of(value)


def _has_place(schema: Any, pointer: str) -> bool:
    """Whether a JSON pointer leads to anything."""
    for part in pointer.split("/")[1:]:
        name = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(schema, list) and name.isdecimal() and int(name) < len(schema):
            schema = schema[int(name)]
        elif isinstance(schema, dict) and name in schema:
            schema = schema[name]
        else:
            return False
    return pointer == "" or pointer.startswith("/")


def _keywords(value: Any) -> Iterator[tuple[str, Any]]:
    """All names and values of the objects in a document."""
    if isinstance(value, dict):
        for name, inside in value.items():
            yield name, inside
            yield from _keywords(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from _keywords(inside)


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if validator.is_type(instance, "string") and not is_found(instance, pattern):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def is_valid_json(text: str, validator: Any) -> bool:
    """Whether the text, or what its first code fence holds, is JSON that the schema holds of."""
    fenced = FENCED.search(text)
    try:
        return bool(validator.is_valid(parse_json(fenced[1] if fenced else text)))
    except (ValueError, RecursionError):
        return False
