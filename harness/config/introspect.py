"""Keys, documentation and valid values from the schema, for messages, completion and docs/config.md."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt, MinLen

from harness.config.schema import MultipleOfKeys, OnlyFor


@dataclass(frozen=True)
class Field:
    """One field of a section."""

    name: str
    annotation: Any
    default: Any
    """dataclasses.MISSING where a value must be given."""
    owner: type
    """The section that it belongs to."""

    @property
    def doc(self) -> str:
        """The string under it; read only where it is shown, since finding it takes longer than all else here."""
        return _docs_of(self.owner).get(self.name, "")

    @cached_property
    def section(self) -> type | None:
        """The dataclass that this field nests, if it nests one."""
        return self.annotation if dataclasses.is_dataclass(self.annotation) and isinstance(self.annotation, type) else None

    @cached_property
    def entries(self) -> type | None:
        """The dataclass of the entries, if this field is a mapping from names to sections."""
        plain = get_args(self.annotation)[0] if get_origin(self.annotation) is Annotated else self.annotation
        value = get_args(plain)[1] if get_origin(plain) is dict else None
        return value if dataclasses.is_dataclass(value) and isinstance(value, type) else None

    @property
    def is_open(self) -> bool:
        """Whether any key may stand below it (a mapping)."""
        return dict in [get_origin(part) or part for part in alternatives(self.annotation)]

    @property
    def only_for(self) -> tuple[str, ...]:
        """The kinds of its group that read it; empty: all."""
        return next((part.kinds for part in _annotations(self.annotation) if isinstance(part, OnlyFor)), ())

    @property
    def factors(self) -> tuple[str | int, ...]:
        """The keys and numbers of whose product its value has to be a multiple; empty: of none."""
        return next((part.factors for part in _annotations(self.annotation) if isinstance(part, MultipleOfKeys)), ())

    def deciding_group(self, key: str) -> str:
        """The group whose kind decides whether this field, at `key`, is read."""
        other = next((part.group for part in _annotations(self.annotation) if isinstance(part, OnlyFor)), None)
        return other or key.split(".")[0]


@cache
def fields_of(section: type) -> dict[str, Field]:
    """The fields of a section by name, in order."""
    hints = get_type_hints(section, include_extras=True)
    result = {}
    for item in dataclasses.fields(section):
        default: Any = item.default
        if item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        result[item.name] = Field(item.name, hints[item.name], default, section)
    return result


@cache
def _docs_of(section: type) -> dict[str, str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(section)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    docs = {}
    for above, below in pairwise(body):
        if isinstance(above, ast.AnnAssign) and isinstance(above.target, ast.Name) and isinstance(below, ast.Expr):
            value = below.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                docs[above.target.id] = " ".join(value.value.split())
    return docs


def keys(section: type, prefix: str = "") -> Iterator[tuple[str, Field]]:
    """Every leaf key below a section, dotted; entries of a mapping stand as <name>."""
    for name, item in fields_of(section).items():
        key = f"{prefix}{name}"
        if item.section:
            yield from keys(item.section, f"{key}.")
        elif item.entries:
            yield from keys(item.entries, f"{key}.<name>.")
        else:
            yield key, item


def find(section: type, key: str) -> Field | None:
    """The field at a dotted key, or None where the schema has no such key. Keys below an open mapping belong to the mapping."""
    head, _, rest = key.partition(".")
    item = fields_of(section).get(head)
    if item is None or not rest:
        return item
    if item.section:
        return find(item.section, rest)
    if item.entries:
        _, _, below = rest.partition(".")
        return find(item.entries, below) if below else dataclasses.replace(item, annotation=item.entries, default=dataclasses.MISSING)
    return item if item.is_open else None


def siblings(section: type, key: str) -> tuple[str, list[str]]:
    """For a key that does not exist: the deepest part of it that does, and the names that could follow."""
    path: list[str] = []
    current = section
    parts = key.split(".")
    while parts:
        item = fields_of(current).get(parts[0])
        if item is None or not (item.section or item.entries):
            break
        path.append(parts.pop(0))
        if item.entries and parts:
            path.append(parts.pop(0))
        current = item.section or item.entries or current
    return ".".join(path), list(fields_of(current))


def alternatives(annotation: Any) -> list[Any]:
    """The types of a union, else the type itself, without annotations."""
    if get_origin(annotation) is Annotated:
        return alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [part for option in get_args(annotation) for part in alternatives(option)]
    return [annotation]


def _annotations(annotation: Any) -> list[Any]:
    """All `Annotated` metadata, outermost last."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        return [*_annotations(inner), *metadata]
    if get_origin(annotation) in (Union, types.UnionType):
        return [part for option in get_args(annotation) for part in _annotations(option)]
    return []


def is_number(annotation: Any) -> bool:
    """Whether a range of numbers makes sense for this type."""
    return any(part in (int, float) for part in alternatives(annotation))


def may_hold_number(item: Field, key: str) -> bool:
    """Whether a key, whose field `find` gave, is a name below a mapping whose values are numbers, or nothing is known of."""
    values = get_args(item.annotation)[1:]
    return item.is_open and not key.endswith(f".{item.name}") and (values == (Any,) or (len(values) == 1 and is_number(values[0])))


def describe(annotation: Any) -> str:
    """What would be valid, in words: "a number > 0", "one of linear, cosine", "null or text"."""
    if get_origin(annotation) in (Union, types.UnionType):
        options = [describe(option) for option in get_args(annotation)]
        return " or ".join(sorted(options, key=lambda option: option == "null"))
    if get_origin(annotation) is Annotated:
        return _bounded(describe(get_args(annotation)[0]), get_args(annotation)[1:])
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(str(value) for value in get_args(annotation))
    if get_origin(annotation) in (list, tuple):
        parts = [part for part in get_args(annotation) if part is not Ellipsis]
        return f"a list of {len(parts)}: " + "; ".join(map(describe, parts)) if len(parts) > 1 else f"a list, each {describe(parts[0])}"
    if get_origin(annotation) is dict:
        value = get_args(annotation)[1]
        return f"a mapping from names to {'sections' if dataclasses.is_dataclass(value) else 'values'}"
    plain = {float: "a number", int: "an integer", str: "text", bool: "true or false", type(None): "null", Any: "anything"}
    return plain.get(annotation, "a section")


def _bounded(what: str, metadata: tuple[Any, ...]) -> str:
    bounds = []
    for part in metadata:
        match part:
            case Gt(gt=value):
                bounds.append(f"> {value}")
            case Ge(ge=value):
                bounds.append(f">= {value}")
            case Lt(lt=value):
                bounds.append(f"< {value}")
            case Le(le=value):
                bounds.append(f"<= {value}")
            case MinLen():
                what = f"a non-empty {what.removeprefix('a ')}" if what.startswith("a ") else f"non-empty {what}"
    return f"{what} {' and '.join(bounds)}" if bounds else what
