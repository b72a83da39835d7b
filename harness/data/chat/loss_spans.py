"""Which characters of a rendered conversation the loss is on."""

from __future__ import annotations

from typing import Literal

from harness.data.chat.conversation import Conversation
from harness.data.chat.template import Rendered, Spans

LossOn = Literal["all", "assistant", "last_assistant", "flagged", "spans"]


def trained_turns(conversation: Conversation, loss_on: LossOn) -> list[int]:
    """Indices of the messages that are trained whole: it must be known what the assistant generates in these, and in no others."""
    match loss_on:
        case "assistant":
            return conversation.assistant_turns
        case "last_assistant":
            return conversation.assistant_turns[-1:]
        case "flagged":
            return [index for index in conversation.assistant_turns if conversation.messages[index].train]
        case "all" | "spans":
            return []


def trained_spans(rendered: Rendered, loss_on: LossOn) -> Spans:
    """[start, end) of the characters that are trained, in order, without overlap; `rendered` with the turns of `trained_turns`."""
    match loss_on:
        case "all":
            return [(0, len(rendered.text))]
        case "spans":
            return rendered.spans
        case _:
            return rendered.turns
