"""Templates of a recipe: Jinja in its sandbox, over the fields of a row. What a field holds is text, and no template itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jinja2
from jinja2 import meta, nodes

from harness.config.errors import InputError
from harness.data.chat.template_limits import MOST_CHARACTERS, LimitedEnvironment, TemplateLimitError, limits

Names = Mapping[str, frozenset[str]]
"""Fields by name, and what is read of each: {"problems": {"question"}}; of one that is read as a whole nothing."""


class RowTemplateError(Exception):
    """A template that fails for a row; the message says why."""


class RowTemplate:
    """A template, compiled."""

    def __init__(self, source: str, *, key: str) -> None:
        """key: where it stands, for messages. Raises InputError for one that Jinja cannot read."""
        self.source, self._key = source, key
        try:
            with limits():
                environment = _environment()
                tree = environment.parse(source)
                self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise InputError(f"{key}: not a Jinja template: {error.message} (line {error.lineno})") from error
        except Exception as error:
            # What Jinja computes, and Python compiles, before anything is rendered.
            raise InputError(f"{key}: not a Jinja template that can be used: {type(error).__name__}: {error}") from error
        self.names: Names = _names(tree)

    def render(self, fields: Mapping[str, Any]) -> str:
        """The text for a row. Raises RowTemplateError."""
        try:
            with limits():
                text = self._template.render(fields)
            if len(text) > MOST_CHARACTERS:
                raise TemplateLimitError(f"it makes {len(text):,} characters")
            text.encode()
        except Exception as error:  # noqa: BLE001 - it is a program of its author, who may have made any mistake
            raise RowTemplateError(
                f"{self._key}: {error}" if isinstance(error, jinja2.TemplateError) else _words(self._key, error)
            ) from None
        return text


def _words(key: str, error: Exception) -> str:
    return f"{key}: {error}" if isinstance(error, TemplateLimitError) else f"{key}: {type(error).__name__}: {error}"


def _environment() -> LimitedEnvironment:
    environment = LimitedEnvironment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    # The same row becomes the same text, today and tomorrow.
    environment.globals.pop("lipsum")
    environment.filters.pop("random")
    # Not Jinja's own, which is for HTML.
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    return environment


def _names(tree: nodes.Template) -> Names:
    found: dict[str, set[str]] = {name: set() for name in meta.find_undeclared_variables(tree)}
    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        match node:
            case nodes.Getattr(node=nodes.Name(name=name), attr=field) if name in found:
                found[name].add(field)
            case nodes.Getitem(node=nodes.Name(name=name), arg=nodes.Const(value=str() as field)) if name in found:
                found[name].add(field)
    return {name: frozenset(read) for name, read in sorted(found.items())}
