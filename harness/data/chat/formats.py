"""Parse rows of the usual formats of instruction data into conversations. Errors name the file and the row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from harness.config.errors import InputError, did_you_mean
from harness.data.chat.conversation import ROLES, Conversation, MalformedError, Message, ToolCall, check_turns
from harness.data.rows import Row, described, nothing_in, read_rows
from harness.data.text_files import ROW_ENDINGS

Values = dict[str, Any]
SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}
REASONING_FIELDS = ("reasoning", "reasoning_content", "thinking")
DETECTED_FROM = 10
"""How many rows are read to detect a file's format."""


class ChatDocument(NamedTuple):
    """A conversation, its place (for messages), and how many bytes of its files were read up to its end."""

    conversation: Conversation
    where: str
    position: int

    @property
    def characters(self) -> int:
        return self.conversation.characters


def read_conversations(files: Sequence[Path], chat_format: str, *, key: str) -> Iterator[ChatDocument]:
    """The conversations of the files, in order; `chat_format` as data.sources.<name>.format; auto: detected from each file's first rows.

    Raises InputError, naming the file, the line and what would be valid, for the first row that is no conversation; and when there is none.
    """
    before, empty = 0, True
    for file in files:
        if not file.name.endswith(ROW_ENDINGS):
            raise InputError(
                f"{key}: {file}: a text file holds no conversations; valid: {', '.join(ROW_ENDINGS)}, or {key}.format=text "
                "for plain text, every token of which is trained"
            )
        rows = read_rows(file, key=key)
        if chat_format == "auto":
            first = list(islice(rows, DETECTED_FROM))
            rows = chain(first, rows)
            parse = PARSERS[_detected(first, key)] if first else _messages
        else:
            parse = PARSERS[chat_format]
        for row in rows:
            yield ChatDocument(_parsed(row, parse), row.where, before + row.position)
            empty = False
        before += file.stat().st_size
    if empty:
        raise nothing_in(files, "conversation", key=key)


def begins_with_conversation(file: Path, field: str, *, key: str) -> bool:
    """Whether the first row of a file is a conversation, and not plain text in `field`.

    Raises InputError when it is neither, or cannot be read.
    """
    if not file.name.endswith(ROW_ENDINGS):
        return False
    row = next(read_rows(file, key=key), None)
    if row is None:
        return False  # reading it as text says that there is none
    try:
        _format_of(row, key)
    except InputError:
        if field not in row.values:
            raise
        return False
    return True


def _detected(rows: Sequence[Row], key: str) -> str:
    found: dict[str, Row] = {}
    for row in rows:
        found.setdefault(_format_of(row, key), row)
    if len(found) > 1:
        names = ", ".join(f"{name} ({row.where.removeprefix(f'{key}: ')})" for name, row in found.items())
        raise InputError(f"{key}: rows of several formats in one file: {names}; valid: one format a file, or {key}.format=…")
    return next(iter(found))


def _format_of(row: Row, key: str) -> str:
    given = {name for name, value in row.values.items() if value is not None}
    if "messages" in given:
        return "messages"
    if "conversations" in given:
        turns = row.values["conversations"]
        by_role = isinstance(turns, list) and bool(turns) and isinstance(turns[0], dict) and "role" in turns[0]
        return "messages" if by_role else "sharegpt"
    if "instruction" in given:
        return "alpaca"
    if {"prompt", "completion"} <= given:
        return "prompt_completion"
    raise InputError(
        f"{row.where}: no known format of conversations (fields there: {', '.join(row.values) or 'none'}). Valid: messages; conversations "
        f"(sharegpt); instruction with output or response (alpaca); prompt with completion; or {key}.format=text for plain text"
    )


def _parsed(row: Row, parse: Callable[[Values], Conversation]) -> Conversation:
    try:
        conversation = parse(row.values)
        check_turns(conversation.messages)
        return conversation
    except MalformedError as error:
        raise InputError(f"{row.where}: {error}") from None


# The formats.


def _sharegpt(row: Values) -> Conversation:
    messages: list[Message] = []
    if row.get("system"):
        messages.append(Message("system", _text(row["system"], "system")))
    for number, turn in enumerate(_list(row, "conversations"), start=1):
        where = f"conversations[{number - 1}]"
        turn = _object(turn, where)
        role = _one_of(turn.get("from"), SHAREGPT_ROLES, f"{where}.from")
        if role == "function_call":
            calls = _tool_calls(turn.get("value"), f"{where}.value")
            previous = messages[-1] if messages else None
            if previous is not None and previous.role == "assistant" and not previous.tool_calls:
                # Only this format has text before a call as a turn of its own.
                messages[-1] = Message("assistant", previous.content, previous.reasoning, calls, previous.train, previous.train_spans)
            else:
                messages.append(Message("assistant", tool_calls=calls, **_training(turn, "", where)))
            continue
        content = _text(turn.get("value"), f"{where}.value")
        if role == "system" and not content.strip():
            continue
        reasoning = _reasoning(turn, where)
        messages.append(Message(SHAREGPT_ROLES[role], content, reasoning, **_training(turn, content, where)))  # type: ignore[arg-type]
    return Conversation(tuple(messages), _tools(row.get("tools")))


def _alpaca(row: Values) -> Conversation:
    if row.get("instruction") is None:
        raise MalformedError(f"no field 'instruction'; fields there: {', '.join(row) or 'none'}")
    answer = next((name for name in ("output", "response") if row.get(name) is not None), None)
    if answer is None:
        raise MalformedError(f"no field 'output' or 'response'; fields there: {', '.join(row)}")
    messages = []
    if row.get("system"):
        messages.append(Message("system", _text(row["system"], "system")))
    for number, pair in enumerate(row.get("history") or []):
        if not (isinstance(pair, list | tuple) and len(pair) == 2):
            raise MalformedError(f"history[{number}] is {described(pair)}; valid: a pair [instruction, answer]")
        messages.append(Message("user", _text(pair[0], f"history[{number}][0]")))
        messages.append(Message("assistant", _text(pair[1], f"history[{number}][1]")))
    question = _text(row["instruction"], "instruction")
    given = _text(row.get("input") or "", "input")
    messages.append(Message("user", f"{question}\n\n{given}" if given.strip() else question))
    content = _text(row[answer], answer)
    messages.append(Message("assistant", content, **_training(row, content, "")))
    return Conversation(tuple(messages), _tools(row.get("tools")))


def _messages(row: Values) -> Conversation:
    field = "conversations" if row.get("messages") is None and "conversations" in row else "messages"
    return Conversation(_turns(_list(row, field), field), _tools(row.get("tools")))


def _prompt_completion(row: Values) -> Conversation:
    turns: list[Message] = []
    for field, role in (("prompt", "user"), ("completion", "assistant")):
        value = row.get(field)
        if isinstance(value, list):
            turns += _turns(value, field)
        elif role == "user":
            turns.append(Message("user", _text(value, field)))
        else:
            content = _text(value, field)
            turns.append(Message("assistant", content, **_training(row, content, "")))
    return Conversation(tuple(turns), _tools(row.get("tools")))


PARSERS: dict[str, Callable[[Values], Conversation]] = {
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "messages": _messages,
    "prompt_completion": _prompt_completion,
}


# Their parts.


def _turns(values: list[Any], field: str) -> tuple[Message, ...]:
    """Messages as OpenAI's interface has them; content as text or in parts."""
    messages = []
    for index, value in enumerate(values):
        where = f"{field}[{index}]"
        turn = _object(value, where)
        role = _one_of(turn.get("role"), ROLES, f"{where}.role")
        content, reasoning, calls = _content(turn.get("content"), f"{where}.content")
        if role == "system" and not content.strip():
            continue
        reasoning = _reasoning(turn, where) or reasoning
        calls += _tool_calls(turn.get("tool_calls") or [], f"{where}.tool_calls")
        if calls and role != "assistant":
            raise MalformedError(f"{where}: tool calls by {role}; valid: by assistant")
        messages.append(Message(role, content, reasoning, calls, **_training(turn, content, where)))  # type: ignore[arg-type]
    return tuple(messages)


def _content(value: Any, where: str) -> tuple[str, str | None, tuple[ToolCall, ...]]:
    """Text, reasoning and tool calls of a message's content."""
    if value is None or isinstance(value, str):
        return _text(value or "", where), None, ()
    if not isinstance(value, list):
        raise MalformedError(f"{where} is {described(value)}; valid: a string, or an array of parts")
    texts: list[str] = []
    reasoning: list[str] = []
    calls: tuple[ToolCall, ...] = ()
    for index, part in enumerate(value):
        here = f"{where}[{index}]"
        part = _object(part, here)
        what = _one_of(part.get("type"), ("text", "reasoning", "tool_call"), f"{here}.type")
        # Parquet has nulls for fields that only other parts have.
        inside = next((part[name] for name in (what, "text", "value") if part.get(name) is not None), None)
        if what == "tool_call":
            calls += _tool_calls(inside, here)
        else:
            (texts if what == "text" else reasoning).append(_text(inside, here))
    return "".join(texts), "".join(reasoning) or None, calls


def _reasoning(turn: Values, where: str) -> str | None:
    name = next((name for name in REASONING_FIELDS if turn.get(name)), None)
    return None if name is None else _text(turn[name], f"{where}.{name}")


def _tool_calls(value: Any, where: str) -> tuple[ToolCall, ...]:
    """One call or several, as objects or as JSON text, bare or as {type: function, function: …}."""
    value = _json(value, where)
    calls = []
    for call in value if isinstance(value, list) else [value]:
        inner = _object(_json(call, where), where)
        inner = _object(inner["function"], f"{where}.function") if inner.get("function") is not None else inner
        name = inner.get("name")
        if not isinstance(name, str) or not name:
            raise MalformedError(f"{where}: a tool call without a name; valid: {{name, arguments}}")
        arguments = _json(inner.get("arguments") or {}, f"{where}, arguments of {name}")
        calls.append(ToolCall(name, _object(arguments, f"{where}, arguments of {name}")))
    return tuple(calls)


def _tools(value: Any) -> tuple[dict[str, Any], ...]:
    """Tools as JSON schemas, given as an array or as JSON text, bare or as {type: function, function: …}."""
    tools = _json(value or [], "tools")
    if not isinstance(tools, list):
        raise MalformedError(f"tools is {described(tools)}; valid: an array of JSON schemas, or the text of one")
    schemas = []
    for index, tool in enumerate(tools):
        schema = _object(_json(tool, f"tools[{index}]"), f"tools[{index}]")
        function = schema.get("function") if schema.get("function") is not None else schema
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise MalformedError(f"tools[{index}]: no name; valid: {{name, description, parameters}}")
        schemas.append({"type": "function", "function": function})
    return tuple(schemas)


def _training(turn: Values, content: str, where: str) -> dict[str, Any]:
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


def _json(value: Any, where: str) -> Any:
    """The value; text is parsed as JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (json.JSONDecodeError, RecursionError) as error:
        raise MalformedError(f"{where}: not valid JSON ({error}): {value[:80]!r}") from None


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise MalformedError(f"{where} is {described(value)}; valid: a string")
    return value


def _object(value: Any, where: str) -> Values:
    if not isinstance(value, dict):
        raise MalformedError(f"{where} is {described(value)}; valid: an object")
    return value


def _list(row: Values, field: str) -> list[Any]:
    value = row.get(field)
    if field not in row:
        raise MalformedError(f"no field {field!r}; fields there: {', '.join(row) or 'none'}")
    if not isinstance(value, list):
        raise MalformedError(f"{field} is {described(value)}; valid: an array of messages")
    return value


def _one_of(value: Any, valid: Any, where: str) -> str:
    if not isinstance(value, str) or value not in valid:
        hint = did_you_mean(value, valid) if isinstance(value, str) else ""
        raise MalformedError(f"{where} is {value!r}.{hint} Valid: {', '.join(valid)}")
    return value
