"""The message schema that all instruction data is converted to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
MADE_ID_LENGTH = 9
"""Of ids of tool calls whose data have none: Mistral's templates take no other, and letters and digits alone."""

TOOL_CALL_MARKS = ("<tool_call>", "</tool_call>")
"""Around a call in the text of a turn, as the Hermes models write it; some tokenizers have them as control tokens."""


class MalformedError(Exception):
    """A conversation cannot be used; the message says why and what would be valid. The caller adds its place."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the assistant makes."""

    name: str
    arguments: dict[str, Any]
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One turn."""

    role: Role
    content: str = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    """Of a tool's answer: the call that it answers."""
    name: str | None = None
    """Who speaks, or the tool that answers."""
    train: bool | None = None
    """Whether data.loss_on=flagged trains this turn (the assistant's only); None: the data does not say."""
    train_spans: tuple[tuple[int, int], ...] = ()
    """[start, end) characters of the content that data.loss_on=spans trains, in order, without overlap."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns, and the tools that the assistant may call, as JSON schemas {type: function, function: {name, …}}."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    """Further variables of the chat template, over those of data.chat_template_kwargs."""

    @property
    def assistant_turns(self) -> list[int]:
        """Indices of the assistant's messages."""
        return [index for index, message in enumerate(self.messages) if message.role == "assistant"]

    @property
    def characters(self) -> int:
        return sum(len(message.content) + len(message.reasoning or "") for message in self.messages)


def instructed(conversation: Conversation, instruction: str | None) -> Conversation:
    """The conversation with an instruction as its system message, before what that says already; None: as it is."""
    if instruction is None:
        return conversation
    first, *rest = conversation.messages or (Message("user", ""),)
    if first.role != "system":
        return replace(conversation, messages=(Message("system", instruction), first, *rest))
    return replace(conversation, messages=(replace(first, content=f"{instruction}\n\n{first.content}"), *rest))


def check_turns(messages: tuple[Message, ...], *, is_prompt: bool = False) -> None:
    """Raise MalformedError unless the roles are in a valid order and no message is empty.

    At most one system message, first; then user and assistant in turn, tools after a turn that calls one; the assistant last, but of a
    prompt, which the assistant is to go on from. Two turns of one role in a row are refused (except several tools' answers), not joined.
    """
    if not messages:
        raise MalformedError("no messages; valid: at least a user's" + ("" if is_prompt else " and an assistant's"))
    before: Message | None = None
    for number, message in enumerate(messages, start=1):
        valid = _may_follow(before)
        if message.role not in valid:
            after = "first" if before is None else f"after {before.role}" + (" without a tool call" if message.role == "tool" else "")
            raise MalformedError(f"message {number} is by {message.role}, {after}; valid there: {' or '.join(valid)}")
        said = message.content.strip() or (message.reasoning or "").strip() or message.tool_calls
        if not said and message.role != "tool":
            raise MalformedError(
                f"message {number} ({message.role}) is empty; valid: content" + ", or tool calls" * (message.role == "assistant")
            )
        before = message
    if is_prompt and messages[-1].role not in ("user", "tool"):
        raise MalformedError(f"the last message is by {messages[-1].role}; valid of a prompt: user or tool, for the assistant to answer")
    if not is_prompt and messages[-1].role != "assistant":
        raise MalformedError(f"the last message is by {messages[-1].role}; valid: assistant, for there to be something to learn")


def with_ids(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages with an id for every tool call, and with the call's id and its tool's name in every answer.

    Those that the data have stay. The others are made, the same for the same conversation; answers without an id are taken to be in the
    order of the calls.
    """
    if not any(message.tool_calls for message in messages):
        return messages
    filled: list[Message] = []
    open_calls: list[ToolCall] = []
    for number, message in enumerate(messages):
        if message.tool_calls:
            open_calls = list(_identified(messages, number))
            message = replace(message, tool_calls=tuple(open_calls))
        elif message.role == "tool" and open_calls:
            answered = next((call for call in open_calls if call.id == message.tool_call_id), None)
            if answered is None and message.tool_call_id is None:
                answered = open_calls[0]
            if answered is not None:
                open_calls = [call for call in open_calls if call is not answered] or open_calls[-1:]
                message = replace(message, tool_call_id=answered.id, name=message.name or answered.name)
        filled.append(message)
    return tuple(filled)


def _identified(messages: tuple[Message, ...], number: int) -> Iterator[ToolCall]:
    """The calls of message `number` with ids: their own, else those of the answers behind it, else made ones."""
    calls = messages[number].tool_calls
    answers = []
    for message in messages[number + 1 :]:
        if message.role != "tool":
            break
        answers.append(message.tool_call_id)
    known = {call.id for call in calls}
    free = [answer for answer in answers if answer not in known] if len(answers) == len(calls) else []
    for index, call in enumerate(calls):
        if call.id is not None:
            yield call
        elif free and (given := free.pop(0)) is not None:
            yield replace(call, id=given)
        else:
            seed = json.dumps([number, index, call.name, call.arguments], sort_keys=True)
            yield replace(call, id=hashlib.sha256(seed.encode()).hexdigest()[:MADE_ID_LENGTH])


def _may_follow(before: Message | None) -> tuple[str, ...]:
    match before.role if before else None:
        case None:
            return ("system", "user")
        case "system":
            return ("user",)
        case "user":
            return ("assistant",)
        case "tool":
            return ("assistant", "tool")
        case _:
            return ("user", "tool") if before and before.tool_calls else ("user",)
