"""Calls of tools as the Hermes models write them, <tool_call>{"name": …, "arguments": {…}}</tool_call>: the right functions with the right
arguments, in any order, and no others. What is said besides does not matter."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from harness.config.documents import parse_json
from harness.data.chat.conversation import TOOL_CALL_MARKS, ToolCall
from harness.data.row import described
from harness.evaluation.verifiers.verifier import BadReferenceError

BLOCK = re.compile(rf"{TOOL_CALL_MARKS[0]}(.*?)(?:{TOOL_CALL_MARKS[1]}|\Z)", re.DOTALL)
"""The last one may lack its end, where generation stops at it."""
VALID = 'valid: {"name": …, "arguments": {…}}, an array of such, [] for no call, or a text with <tool_call> blocks'
Calls = Counter[str]
"""Each call in one spelling, see `_spelled`."""


def calls_in(text: str) -> Calls | None:
    """The calls that a text makes; None where one of them cannot be read."""
    try:
        return Counter(_spelled(parse_json(block.strip())) for block in BLOCK.findall(text))
    except (ValueError, RecursionError):
        return None


def _spelled(call: Any) -> str:
    """A call in the one spelling that all equal ones have: keys in order, 2.0 as 2. Raises ValueError for what is none."""
    call = call.get("function", call) if isinstance(call, dict) else call
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        raise ValueError("a call without a name")
    arguments = call.get("arguments", call.get("parameters", {}))
    if isinstance(arguments, str):  # as OpenAI's API has them
        arguments = parse_json(arguments or "{}")
    if not isinstance(arguments, dict):
        raise ValueError(f"arguments that are {described(arguments)}")
    return json.dumps([call["name"], _plain(arguments)], sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inside) for name, inside in value.items()}
    if isinstance(value, list):
        return [_plain(inside) for inside in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def calls_of(value: Any) -> Calls:
    """The calls of a reference. Raises BadReferenceError."""
    try:
        if isinstance(value, str) and TOOL_CALL_MARKS[0] in value:
            calls = calls_in(value)
            if calls is None:
                raise ValueError("a <tool_call> block that cannot be read")
            return calls
        if isinstance(value, str):
            value = parse_json(value)
        listed = value if isinstance(value, list | tuple) else [value]
        return Counter(
            _spelled({"name": call.name, "arguments": call.arguments} if isinstance(call, ToolCall) else call) for call in listed
        )
    except (ValueError, RecursionError) as error:
        raise BadReferenceError(f"no tool calls ({error}); {VALID}") from error


def are_same_calls(text: str, reference: Calls) -> bool:
    return calls_in(text) == reference
