"""Just enough GraphQL to answer a client whatever it selects: parse its document, then walk the selection over plain dicts.

A node is a dict of fields; a field is a value or a function of its arguments. Fields that a node does not have answer null and are
counted, so that a new version of the client shows what it newly asks for.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

Node = dict[str, Any]

TOKEN = re.compile(
    r"""(?P<skipped>\s+|,|\#[^\n]*)
    |(?P<text>\"\"\"(?:.|\n)*?\"\"\"|"(?:\\.|[^"\\])*")
    |(?P<name>[A-Za-z_]\w*)
    |(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    |(?P<mark>\.\.\.|[{}()\[\]:=!$@|&])""",
    re.VERBOSE,
)


class GraphQLError(Exception):
    """A document that this reader does not understand, or a request that the server refuses."""


@dataclass(frozen=True)
class Variable:
    name: str


@dataclass(frozen=True)
class Selection:
    """A field, or a fragment: a spread by `name`, or inline with its own selections (`name` is then its type condition, if any)."""

    kind: str
    name: str | None
    alias: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    directives: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    selections: list[Selection] | None = None


@dataclass(frozen=True)
class Operation:
    kind: str
    name: str
    defaults: dict[str, Any]
    selections: list[Selection]
    fragments: dict[str, list[Selection]]


def parse(document: str) -> Operation:
    """The one operation of a document, with the fragments beside it."""
    return _Parser(document).document()


class _Parser:
    def __init__(self, document: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        position = 0
        while position < len(document):
            match = TOKEN.match(document, position)
            if match is None:
                raise GraphQLError(f"unreadable: {document[position : position + 30]!r}")
            position = match.end()
            if match.lastgroup != "skipped":
                self.tokens.append((str(match.lastgroup), match.group()))
        self.tokens.append(("end", ""))
        self.position = 0

    def ahead(self) -> str:
        return self.tokens[self.position][1]

    def take(self, expected: str | None = None) -> str:
        token = self.ahead()
        if expected is not None and token != expected:
            raise GraphQLError(f"expected {expected!r}, not {token!r}")
        self.position += 1
        return token

    def skip(self, token: str) -> bool:
        if self.ahead() == token:
            self.take()
            return True
        return False

    def document(self) -> Operation:
        kind, name, defaults, selections = "query", "", {}, []
        fragments: dict[str, list[Selection]] = {}
        while self.tokens[self.position][0] != "end":
            if self.ahead() == "{":
                selections = self.selections()
            elif self.skip("fragment"):
                fragment = self.take()
                self.take("on")
                self.take()
                self.directives()
                fragments[fragment] = self.selections()
            else:
                kind = self.take()
                name = "" if self.ahead() in ("(", "{", "@") else self.take()
                defaults = self.variable_defaults()
                self.directives()
                selections = self.selections()
        return Operation(kind, name, defaults, selections, fragments)

    def variable_defaults(self) -> dict[str, Any]:
        defaults: dict[str, Any] = {}
        if self.skip("("):
            while not self.skip(")"):
                self.take("$")
                name = self.take()
                self.take(":")
                self.type_reference()
                if self.skip("="):
                    defaults[name] = self.value()
                self.directives()
        return defaults

    def type_reference(self) -> None:
        if self.skip("["):
            self.type_reference()
            self.take("]")
        else:
            self.take()
        self.skip("!")

    def value(self) -> Any:
        kind, token = self.tokens[self.position]
        self.take()
        if token == "$":
            return Variable(self.take())
        if token == "[":
            items = []
            while not self.skip("]"):
                items.append(self.value())
            return items
        if token == "{":
            return self.pairs("}")
        if kind == "text":
            return token[3:-3] if token.startswith('"""') else json.loads(token)
        if kind == "number":
            return json.loads(token)
        return {"true": True, "false": False, "null": None}.get(token, token)

    def pairs(self, end: str) -> dict[str, Any]:
        pairs: dict[str, Any] = {}
        while not self.skip(end):
            key = self.take()
            self.take(":")
            pairs[key] = self.value()
        return pairs

    def arguments(self) -> dict[str, Any]:
        return self.pairs(")") if self.skip("(") else {}

    def directives(self) -> list[tuple[str, dict[str, Any]]]:
        found = []
        while self.skip("@"):
            name = self.take()
            found.append((name, self.arguments()))
        return found

    def selections(self) -> list[Selection]:
        self.take("{")
        found = []
        while not self.skip("}"):
            found.append(self.fragment() if self.skip("...") else self.field())
        return found

    def fragment(self) -> Selection:
        if self.ahead() not in ("on", "{", "@"):
            name = self.take()
            return Selection("spread", name, directives=self.directives())
        condition = self.take() if self.skip("on") else None
        directives = self.directives()
        return Selection("inline", condition, directives=directives, selections=self.selections())

    def field(self) -> Selection:
        alias = name = self.take()
        if self.skip(":"):
            name = self.take()
        arguments, directives = self.arguments(), self.directives()
        return Selection("field", name, alias, arguments, directives, self.selections() if self.ahead() == "{" else None)


def execute(operation: Operation, root: Node, variables: dict[str, Any], unknown: Counter[str]) -> Node:
    """The answer to an operation, read from `root`; fields that do not exist are counted in `unknown`."""
    values = {**operation.defaults, **variables}

    def filled(value: Any) -> Any:
        if isinstance(value, Variable):
            return values.get(value.name)
        if isinstance(value, list):
            return [filled(item) for item in value]
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items()}
        return value

    def left_out(selection: Selection) -> bool:
        return any(filled(arguments["if"]) is (name == "skip") for name, arguments in selection.directives if name in ("skip", "include"))

    def walk(node: Any, selections: list[Selection] | None, path: str) -> Any:
        if node is None or selections is None:
            return node
        if isinstance(node, list):
            return [walk(item, selections, path) for item in node]
        answer: Node = {}
        for selection in selections:
            if left_out(selection):
                continue
            if selection.kind == "spread":
                answer.update(walk(node, operation.fragments[str(selection.name)], path))
            elif selection.kind == "inline":
                if selection.name is None or node.get("__typename") in (None, selection.name):
                    answer.update(walk(node, selection.selections, path))
            elif selection.name in node:
                value = node[selection.name]
                if callable(value):
                    value = value(filled(selection.arguments))
                answer[selection.alias] = walk(value, selection.selections, f"{path}.{selection.name}")
            else:
                answer[selection.alias] = None
                if selection.name != "__typename":
                    unknown[f"{path}.{selection.name}"] += 1
        return answer

    answer: Node = walk(root, operation.selections, operation.kind)
    return answer
