"""Which characters of a rendered conversation the loss is on."""

from __future__ import annotations

from typing import Literal

from harness.data.chat.conversation import Conversation
from harness.data.chat.template import Rendered, Spans

LossOn = Literal["all", "assistant", "last_assistant", "flagged", "spans"]


def needs_turns(loss_on: LossOn) -> bool:
    """Whether it must be known what the assistant generates."""
    return loss_on in ("assistant", "last_assistant", "flagged")


def trained_spans(conversation: Conversation, rendered: Rendered, loss_on: LossOn) -> Spans:
    """[start, end) of the characters that are trained, in order, without overlap."""
    match loss_on:
        case "all":
            return [(0, len(rendered.text))]
        case "assistant":
            return rendered.turns
        case "last_assistant":
            return rendered.turns[-1:]
        case "flagged":
            flags = [conversation.messages[index].train for index in conversation.assistant_turns]
            return [turn for turn, flag in zip(rendered.turns, flags, strict=True) if flag]
        case "spans":
            return rendered.spans
