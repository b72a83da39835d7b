"""JSON within what a teacher says: prose before it and after it, fences, braces that are none."""

from __future__ import annotations

import re

from harness.config.documents import parse_json

OPENING = re.compile(r"[{\[]")
TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}\[\]"]', re.DOTALL)
"""A whole string, or a bracket; a quotation mark alone opens a string that does not end."""


def first_json(text: str) -> str | None:
    """The first balanced object or list that is JSON, as it stands there; None where there is none. Nothing is repaired: what is never
    closed is none, nor is a part of it. Linear in the text's length."""
    at = 0
    while (opening := OPENING.search(text, at)) is not None:
        end = _end(text, opening.start())
        if end is None:
            return None
        found = text[opening.start() : end]
        try:
            parse_json(found)
        except (ValueError, RecursionError):
            at = end
            continue
        return found
    return None


def _end(text: str, start: int) -> int | None:
    """Behind the bracket that closes the one at `start`."""
    depth = 0
    for token in TOKEN.finditer(text, start):
        if token[0] == '"':
            return None
        depth += token[0] in "{["
        depth -= token[0] in "}]"
        if depth == 0:
            return token.end()
    return None
