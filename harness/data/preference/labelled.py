"""One answer to a prompt, with a label that calls it good or bad. Errors are MalformedError."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.data.chat.conversation import Conversation, MalformedError, Message
from harness.data.chat.parts import Values
from harness.data.preference.pair import Answer, asked, asked_text, identity_of, messages_of, one_name, unicode_text
from harness.data.row import described

COMPLETION_FIELD, LABEL_FIELD = "completion", "label"


@dataclass(frozen=True)
class LabelledAnswer:
    """An answer and its prompt: turns of a conversation, or two texts, of which one goes on from the other."""

    prompt: Conversation | str
    answer: Answer | str
    label: bool
    """Whether the answer is good."""

    @property
    def answers(self) -> tuple[Answer | str, ...]:
        return (self.answer,)

    @property
    def identity(self) -> str:
        """What the answer is held out by: equal for equal prompts."""
        return self.prompt if isinstance(self.prompt, str) else identity_of(self.prompt)

    @property
    def characters(self) -> int:
        before = len(self.prompt) if isinstance(self.prompt, str) else self.prompt.characters
        return before + sum(len(part) if isinstance(part, str) else len(part.content) for part in self.answer)


def holds_label(row: Values) -> bool:
    """Whether a row has what only answers with labels have."""
    return row.get(COMPLETION_FIELD) is not None and row.get(LABEL_FIELD) is not None


def parse_labelled(row: Values, prompt_of: Callable[[Values, list[Message]], Conversation]) -> LabelledAnswer:
    """prompt and completion, each a text, which is then a turn, or messages; and label. prompt_of: as of `parse_pair`."""
    label, completion = _label(row), one_name(row, (COMPLETION_FIELD,))
    answer = messages_of(row[completion], completion, "assistant")
    return LabelledAnswer(prompt_of(row, asked(row)), tuple(answer), label)


def parse_labelled_text(row: Values) -> LabelledAnswer:
    """prompt and completion as plain text, and label."""
    label = _label(row)
    return LabelledAnswer(asked_text(row), unicode_text(row, (COMPLETION_FIELD,)), label)


def _label(row: Values) -> bool:
    value = row[one_name(row, (LABEL_FIELD,))]
    if not isinstance(value, bool):
        raise MalformedError(f"{LABEL_FIELD} is {described(value)}, {value!r:.40}; valid: true (a good answer) or false (a bad one)")
    return value
