"""The parts of a conversation's row, in all spellings of them: turns, content, tool calls, tools, and what is trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from harness.config.errors import did_you_mean
from harness.data.chat.conversation import MalformedError, Message, Role, ToolCall
from harness.data.row import described

Values = dict[str, Any]
ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "developer": "system",
    "human": "user",
    "gpt": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function": "tool",
}
"""As OpenAI's messages and ShareGPT have them."""
REASONING_FIELDS = ("reasoning", "reasoning_content", "thinking")
TRAINING_FIELDS = ("train", "weight", "train_spans")
TURN_FIELDS = (
    *("role", "from", "content", "value", "name", "tool_call_id", "tool_calls", "function_call"),
    *REASONING_FIELDS,
    *TRAINING_FIELDS,
)
"""All that is read of a turn."""
CALL_FIELDS = ("name", "arguments", "parameters", "id", "type", "index", "function")


def turns(values: list[Any], field: str, unread: Callable[[str], None]) -> list[Message]:
    """Messages of role and content, or of from and value. unread: told of each field of a turn that is not read."""
    messages: list[Message] = []
    for index, value in enumerate(values):
        where = f"{field}[{index}]"
        turn = object_of(value, where)
        for name in turn.keys() - {*TURN_FIELDS}:
            unread(name)
        message, stands_alone = _turn(turn, where)
        if message.role == "system" and not message.content.strip():
            continue
        previous = messages[-1] if messages else None
        if previous is not None and previous.role == message.role == "assistant" and not stands_alone:
            messages[-1] = _joined(previous, message, where)
        else:
            messages.append(message)
    return messages


def _turn(turn: Values, where: str) -> tuple[Message, bool]:
    """The message, and whether it is more than tool calls, which belong to the turn that they follow."""
    word, named = _either(turn, ("role", "from"), where)
    role = one_of(word, ROLES, f"{where}.{named}")
    said, named = _either(turn, ("content", "value"), where)
    if role == "function_call":
        content, reasoning, calls = "", None, _tool_calls(said, f"{where}.{named}")
    else:
        content, reasoning, calls = _content(said, f"{where}.{named}")
    reasoning = _reasoning(turn, where) or reasoning
    calls += _tool_calls(turn.get("tool_calls") or [], f"{where}.tool_calls")
    if turn.get("function_call") is not None:
        calls += _tool_calls(turn["function_call"], f"{where}.function_call")
    if calls and ROLES[role] != "assistant":
        raise MalformedError(f"{where}: tool calls by {role}; valid: by assistant")
    name, answers = (turn.get(key) for key in ("name", "tool_call_id"))
    for key, value in (("name", name), ("tool_call_id", answers)):
        if value is not None:
            text(value, f"{where}.{key}")
    message = Message(ROLES[role], content, reasoning, calls, answers or None, name or None, **training(turn, content, where))
    return message, bool(content.strip() or (reasoning or "").strip() or not calls)


def _joined(message: Message, calls: Message, where: str) -> Message:
    """A turn of the assistant with the calls of the next one, which has nothing else: some data have a turn for each call."""
    if calls.train not in (None, message.train):
        raise MalformedError(f"{where}: tool calls whose train (or weight) is not that of the turn before, to which they belong")
    return replace(message, tool_calls=message.tool_calls + calls.tool_calls)


def _either(turn: Values, names: tuple[str, str], where: str) -> tuple[Any, str]:
    """The value under the one name or the other, and that name."""
    given = [name for name in names if turn.get(name) is not None]
    if len(given) == 2 and turn[names[0]] != turn[names[1]]:
        raise MalformedError(f"{where} has both {names[0]} and {names[1]}; valid: one of them")
    named = given[0] if given else names[1] if names[1] in turn else names[0]
    return turn.get(named), named


def _content(value: Any, where: str) -> tuple[str, str | None, tuple[ToolCall, ...]]:
    """Text, reasoning and tool calls of a message's content."""
    if value is None or isinstance(value, str):
        return value or "", None, ()
    if not isinstance(value, list):
        raise MalformedError(f"{where} is {described(value)}; valid: a string, or an array of parts")
    texts: list[str] = []
    reasoning: list[str] = []
    calls: tuple[ToolCall, ...] = ()
    for index, part in enumerate(value):
        here = f"{where}[{index}]"
        part = object_of(part, here)
        what = one_of(part.get("type"), ("text", "reasoning", "tool_call"), f"{here}.type")
        inside = next((part[name] for name in (what, "text", "value") if part.get(name) is not None), None)
        if what == "tool_call":
            calls += _tool_calls(inside, here)
        else:
            (texts if what == "text" else reasoning).append(text(inside, here))
    return "".join(texts), "".join(reasoning) or None, calls


def _reasoning(turn: Values, where: str) -> str | None:
    name = next((name for name in REASONING_FIELDS if turn.get(name)), None)
    return None if name is None else text(turn[name], f"{where}.{name}")


def _tool_calls(value: Any, where: str) -> tuple[ToolCall, ...]:
    """One call or several, as objects or as JSON text, bare or as {type: function, function: …}."""
    value = json_of(value, where)
    return tuple(_tool_call(object_of(json_of(call, where), where), where) for call in (value if isinstance(value, list) else [value]))


def _tool_call(call: Values, where: str) -> ToolCall:
    inner = object_of(call["function"], f"{where}.function") if call.get("function") is not None else call
    name, number = inner.get("name"), call.get("id", inner.get("id"))
    if not isinstance(name, str) or not name:
        raise MalformedError(f"{where}: a tool call without a name; valid: {{name, arguments}}")
    unknown = sorted({key for part in (call, inner) for key, value in part.items() if key not in CALL_FIELDS and value is not None})
    if unknown:
        raise MalformedError(f"{where}: the call of {name} has {', '.join(unknown)}; valid: name, arguments (or parameters), id")
    place = f"{where}, arguments of {name}"
    given = [key for key in ("arguments", "parameters") if inner.get(key) is not None]
    if len(given) == 2 and inner["arguments"] != inner["parameters"]:
        raise MalformedError(f"{where}: the call of {name} has both arguments and parameters; valid: one of them")
    arguments = json_of(inner[given[0]] if given else {}, place)
    # Models that call without arguments write an empty text.
    return ToolCall(name, object_of({} if arguments in (None, "") else arguments, place), None if number is None else str(number))


def tools(value: Any) -> tuple[dict[str, Any], ...]:
    """Tools as JSON schemas, given as an array or as JSON text, bare or as {type: function, function: …}."""
    given = json_of(value or [], "tools")
    if not isinstance(given, list):
        raise MalformedError(f"tools is {described(given)}; valid: an array of JSON schemas, or the text of one")
    schemas = []
    for index, tool in enumerate(given):
        schema = object_of(json_of(tool, f"tools[{index}]"), f"tools[{index}]")
        function = schema.get("function") if schema.get("function") is not None else schema
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise MalformedError(f"tools[{index}]: no name; valid: {{name, description, parameters}}")
        schemas.append({"type": "function", "function": function})
    return tuple(schemas)


def training(turn: Values, content: str, where: str) -> dict[str, Any]:
    """The fields of Message that select what is trained."""
    prefix = f"{where}." if where else ""
    flag = next((turn[name] for name in ("train", "weight") if turn.get(name) is not None), None)
    if flag not in (None, True, False):  # 1 and 0 are equal to them
        raise MalformedError(f"{prefix}train (or weight) is {flag!r}; valid: true, false, 1 or 0")
    spans: list[tuple[int, int]] = []
    for span in turn.get("train_spans") or []:
        whole = isinstance(span, list | tuple) and len(span) == 2 and all(type(edge) is int for edge in span)
        if not whole or not (spans[-1][1] if spans else 0) <= span[0] < span[1] <= len(content):
            raise MalformedError(
                f"{prefix}train_spans holds {span!r}; valid: [start, end) in characters of the content (it has {len(content)}), "
                "in order and without overlap"
            )
        spans.append((span[0], span[1]))
    return {"train": None if flag is None else bool(flag), "train_spans": tuple(spans)}


def json_of(value: Any, where: str) -> Any:
    """The value; text is parsed as JSON."""
    if not isinstance(value, str) or not value:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a ValueError, too
        raise MalformedError(f"{where}: not valid JSON ({error}): {value[:80]!r}") from None


def text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise MalformedError(f"{where} is {described(value)}; valid: a string")
    return value


def object_of(value: Any, where: str) -> Values:
    if not isinstance(value, dict):
        raise MalformedError(f"{where} is {described(value)}; valid: an object")
    return value


def one_of(value: Any, valid: Iterable[str], where: str) -> str:
    valid = list(valid)
    if not isinstance(value, str) or value not in valid:
        hint = did_you_mean(value, valid) if isinstance(value, str) else ""
        raise MalformedError(f"{where} is {value!r}.{hint} Valid: {', '.join(valid)}")
    return value
