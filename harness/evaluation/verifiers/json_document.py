"""JSON that a schema holds of: the whole text, or what stands in its first code fence (```json … ```).

A schema is anybody's, too: it refers to nothing but itself, its patterns are bounded in time, and all that it asks of a text in steps.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from harness.config.documents import parse_json
from harness.evaluation.verifiers.pattern import is_found, pattern_of
from harness.evaluation.verifiers.verifier import BadReferenceError

log = logging.getLogger("harness")

FENCED = re.compile(r"```[ \t]*(?:json|JSON)?[ \t]*\n(.*?)\n[ \t]*```", re.DOTALL)
MOST_STEPS = 50_000
"""Keywords that are looked at for one text: references that double at each level would take for ever."""
UNBOUNDED = "patternProperties"
"""The keyword whose patterns would be matched without a bound."""
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
ONE_SCHEMA = (
    *("additionalItems", "additionalProperties", "contains", "contentSchema", "else", "if", "items", "not", "propertyNames", "then"),
    *("unevaluatedItems", "unevaluatedProperties"),
)
SCHEMAS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
NAMED_SCHEMAS = ("$defs", "definitions", "dependencies", "dependentSchemas", "properties")
"""Where schemas stand within a schema; all else in it, such as enum, const and default, is data."""


class _TooManyStepsError(Exception):
    pass


@dataclass
class Document:
    """A JSON schema that is ready to be held against documents."""

    validator: Any = None
    steps: int = field(default=0, init=False)
    """Taken with the present document."""
    is_slow: bool = field(default=False, init=False)
    """Whether that was said."""

    def holds(self, document: Any) -> bool:
        """Raises _TooManyStepsError."""
        self.steps = 0
        return bool(self.validator.is_valid(document))

    def counted(self, keyword: Callable[..., Any]) -> Callable[..., Any]:
        def count(*args: Any) -> Any:
            self.steps += 1
            if self.steps > MOST_STEPS:
                raise _TooManyStepsError
            return keyword(*args)

        return count


def schema_of(value: Any) -> Document:
    """A JSON schema, given as such or as text. Raises BadReferenceError."""
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import extend
    from referencing import Registry

    schema = value
    if isinstance(value, str):
        try:
            schema = parse_json(value)
        except (ValueError, RecursionError) as error:
            raise BadReferenceError(f"a text that is no JSON: {error}; valid: a JSON schema") from error
    if not isinstance(schema, dict) or not schema:
        raise BadReferenceError(f"{str(schema)[:60]!r}; valid: a JSON schema, an object with keywords such as type or properties")
    kind, found = _kind(schema), Document()
    try:
        # Nothing refers to it by its name; and a validator would fall back to the plain one of $schema where a reference leads to the root.
        schema = _with_unevaluated_last({name: inside for name, inside in schema.items() if name not in ("$schema", _id_of(kind))})
        _refuse_unusable(schema, kind)
        kind.check_schema(schema)
        keywords = {name: found.counted(keyword) for name, keyword in {**kind.VALIDATORS, "pattern": _pattern}.items()}
        # Without a registry it would fetch what a schema refers to.
        found.validator = extend(kind, keywords)(schema, registry=Registry())
        for instance in list[Any]([{}, [], "", 0, None]):
            found.holds(instance)
    except SchemaError as error:
        raise BadReferenceError(f"no JSON schema: {error.json_path}: {error.message}") from error
    except RecursionError as error:
        raise BadReferenceError("a schema that refers to itself without end") from error
    except _TooManyStepsError as error:
        raise BadReferenceError(f"a schema that takes more than {MOST_STEPS:,} steps, by references within references") from error
    return found


def _kind(schema: dict[str, Any]) -> Any:
    """The validator class of $schema. Raises BadReferenceError."""
    from jsonschema import validators as known

    kinds = (known.Draft4Validator, known.Draft6Validator, known.Draft7Validator, known.Draft201909Validator, known.Draft202012Validator)
    dialects: dict[str, Any] = {kind.META_SCHEMA["$schema"].rstrip("#"): kind for kind in kinds}
    named = schema.get("$schema", known.Draft202012Validator.META_SCHEMA["$schema"])
    if not isinstance(named, str) or named.rstrip("#") not in dialects:
        raise BadReferenceError(f"$schema: {str(named)[:60]!r}; valid: {', '.join(dialects)}")
    return dialects[named.rstrip("#")]


def _id_of(kind: Any) -> str:
    return "$id" if "$id" in kind.META_SCHEMA else "id"


def _with_unevaluated_last(value: Any) -> Any:
    """The same document. What unevaluated keywords look at is found without counting; so all else, which is counted, goes before them."""
    if isinstance(value, dict):
        ordered = sorted(value.items(), key=lambda item: str(item[0]).startswith("unevaluated"))
        return {name: _with_unevaluated_last(inside) for name, inside in ordered}
    return [_with_unevaluated_last(inside) for inside in value] if isinstance(value, list) else value


def _refuse_unusable(schema: dict[str, Any], kind: Any) -> None:
    """Raise BadReferenceError for a schema that refers to another one, or to what is none, or has what is not bounded."""
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import specification_with

    resolver = Registry[Any]().resolver_with_root(specification_with(kind.META_SCHEMA["$schema"]).create_resource(schema))
    seen: set[int] = set()
    schemas, targets = [schema], list[Any]()
    while schemas or targets:
        if not schemas:
            target = targets.pop()
            if isinstance(target, dict) and id(target) not in seen:  # it stands where the check of the whole does not look
                kind.check_schema(target)
                schemas.append(target)
            continue
        one = schemas.pop()
        seen.add(id(one))
        for name, value in one.items():
            if name in REFERENCES:
                if not isinstance(value, str) or not value.startswith("#"):
                    raise BadReferenceError(f"{name}: {value!r}; valid: references within the schema, such as #/$defs/name")
                try:
                    target = resolver.lookup(value).contents
                except (Unresolvable, AttributeError, LookupError, TypeError, ValueError) as error:
                    raise BadReferenceError(f"a schema whose reference leads nowhere: {value}") from error
                if not isinstance(target, dict | bool):
                    raise BadReferenceError(f"a schema whose reference leads to what is no schema: {value}")
                targets.append(target)
            if name == UNBOUNDED or (name in ("$schema", _id_of(kind)) and one is not schema):
                raise BadReferenceError(f"the keyword {name}, which is not read here; valid: a schema without it")
            if name == "pattern" and isinstance(value, str):
                pattern_of(value)
        schemas += [inside for inside in _schemas_in(one) if isinstance(inside, dict) and id(inside) not in seen]


def _schemas_in(schema: dict[str, Any]) -> Iterator[Any]:
    """What stands where a schema may stand, whatever it is."""
    for name, value in schema.items():
        if name in ONE_SCHEMA:
            yield value
        if name in SCHEMAS and isinstance(value, list):
            yield from value
        if name in NAMED_SCHEMAS and isinstance(value, dict):
            yield from value.values()


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if validator.is_type(instance, "string") and not is_found(instance, pattern):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def is_valid_json(text: str, schema: Document) -> bool:
    """Whether the text, or what its first code fence holds, is JSON that the schema holds of; False where that takes too many steps."""
    fenced = FENCED.search(text)
    try:
        return schema.holds(parse_json(fenced[1] if fenced else text))
    except (ValueError, RecursionError, ArithmeticError):  # of a number too: a whole one may be too large to be divided
        return False
    except _TooManyStepsError:
        if not schema.is_slow:
            said = "a JSON schema takes more than %d steps for a text: such texts count as wrong; a simpler one is needed"
            log.warning(said, MOST_STEPS)
        schema.is_slow = True
        return False
