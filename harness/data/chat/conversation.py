"""The message schema that all instruction data is converted to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)


class MalformedError(Exception):
    """A conversation cannot be used; the message says why and what would be valid. The caller adds its place."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the assistant makes."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn."""

    role: Role
    content: str = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    train: bool | None = None
    """Whether data.loss_on=flagged trains this turn (the assistant's only); None: the data does not say."""
    train_spans: tuple[tuple[int, int], ...] = ()
    """[start, end) characters of the content that data.loss_on=spans trains, in order, without overlap."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns, and the tools that the assistant may call, as JSON schemas {type: function, function: {name, …}}."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()

    @property
    def assistant_turns(self) -> list[int]:
        """Indices of the assistant's messages."""
        return [index for index, message in enumerate(self.messages) if message.role == "assistant"]

    @property
    def characters(self) -> int:
        return sum(len(message.content) + len(message.reasoning or "") for message in self.messages)


def check_turns(messages: tuple[Message, ...]) -> None:
    """Raise MalformedError unless the roles are in a valid order and no message is empty.

    At most one system message, first; then user and assistant in turn, tools after a turn that calls one; the assistant last.
    Two turns of one role in a row are refused (except several tools' answers), not joined.
    """
    if not messages:
        raise MalformedError("no messages; valid: at least a user's and an assistant's")
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
    if messages[-1].role != "assistant":
        raise MalformedError(f"the last message is by {messages[-1].role}; valid: assistant, for there to be something to learn")


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
