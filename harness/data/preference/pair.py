"""A prompt with two answers, and rows of the usual shapes of preference data made into one. Errors are MalformedError."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from harness.config.schema import Rejected
from harness.data.chat.conversation import Conversation, MalformedError, Message
from harness.data.chat.parts import Values, text, turns
from harness.data.row import described

APPLIED_TO = "input"
PROMPT_FIELDS = ("prompt", "question", "instruction", APPLIED_TO)
CHOSEN_FIELDS = ("chosen", "chosen_response")
REJECTED_FIELDS = ("rejected", "rejected_response")
SCORE_FIELDS = (
    *(("score_chosen", "score_rejected"), ("chosen_score", "rejected_score"), ("chosen_rating", "rejected_rating")),
    *(("chosen-rating", "rejected-rating"), ("chosen_avg_rating", "rejected_avg_rating")),
)
COMPLETION_FIELDS = ("completions", "responses")
SCORES_FIELD = "scores"
_ANSWER_OF_COMPLETION = ("response", "completion", "text", "content", "messages")
_SCORE_OF_COMPLETION = ("overall_score", "score", "rating", "reward")
PAIR_FIELDS = (
    *(*PROMPT_FIELDS, *CHOSEN_FIELDS, *REJECTED_FIELDS, *COMPLETION_FIELDS, SCORES_FIELD),
    *(name for names in SCORE_FIELDS for name in names),
)
"""All that is read of a row, besides system messages and tools."""

Answer = tuple[Message, ...]


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, as turns of a conversation."""

    prompt: Conversation
    """The messages before the answers, with the tools."""
    chosen: Answer
    rejected: Answer
    gap: float | None = None
    """By how much the chosen answer's score is higher; None where there are no scores."""

    @property
    def answers(self) -> tuple[Answer, ...]:
        return self.chosen, self.rejected

    @property
    def identity(self) -> str:
        """What the pair is held out by: equal for equal prompts."""
        return identity_of(self.prompt)

    @property
    def characters(self) -> int:
        answers = sum(len(message.content) for message in (*self.chosen, *self.rejected))
        return 2 * self.prompt.characters + answers


@dataclass(frozen=True)
class TextPair:
    """Two texts that go on from one: no turns, no template."""

    prompt: str
    chosen: str
    rejected: str
    gap: float | None = None

    @property
    def answers(self) -> tuple[str, ...]:
        return self.chosen, self.rejected

    @property
    def identity(self) -> str:
        return self.prompt

    @property
    def characters(self) -> int:
        return 2 * len(self.prompt) + len(self.chosen) + len(self.rejected)


def whole(prompt: Conversation, answer: Answer) -> Conversation:
    """A prompt and an answer to it."""
    return Conversation((*prompt.messages, *answer), prompt.tools, prompt.template_kwargs)


def identity_of(prompt: Conversation) -> str:
    """A text that is equal for equal prompts."""
    return json.dumps([[asdict(message) for message in prompt.messages], prompt.tools], sort_keys=True, ensure_ascii=False)


def holds_pair(row: Values) -> bool:
    """Whether a row has what only preference data have."""
    return bool(_given(row, CHOSEN_FIELDS) or _given(row, REJECTED_FIELDS) or _given(row, COMPLETION_FIELDS))


def parse_text_pair(row: Values) -> TextPair:
    """prompt, chosen and rejected as plain text."""
    chosen, rejected = (unicode_text(row, names) for names in (CHOSEN_FIELDS, REJECTED_FIELDS))
    return TextPair(asked_text(row), chosen, rejected, _gap(row))


def parse_pair(row: Values, prompt_of: Callable[[Values, list[Message]], Conversation], *, rejected: Rejected) -> Pair:
    """The pair of a row: prompt, chosen and rejected, as texts or messages; whole conversations, whose common beginning is the prompt; or
    several completions with scores, of which the best is chosen and one with a lower score rejected.

    prompt_of: the conversation of a prompt's messages, with what the row has beside them.
    """
    if _given(row, COMPLETION_FIELDS) and not (_given(row, CHOSEN_FIELDS) or _given(row, REJECTED_FIELDS)):
        return _scored(row, prompt_of, rejected)
    sides = []
    for names in (CHOSEN_FIELDS, REJECTED_FIELDS):
        value, name = _one(row, names), one_name(row, names)
        sides.append(messages_of(value, name, "assistant"))
    chosen, other = sides
    if not _is_answer(chosen) and not _is_answer(other):
        messages, chosen, other = _apart(chosen, other)
        _check_prompt(row, messages)
    elif not (_is_answer(chosen) and _is_answer(other)):
        raise MalformedError(
            "one of chosen and rejected begins with the assistant, the other does not; valid: two answers, or two conversations"
        )
    else:
        messages = asked(row)
    return Pair(prompt_of(row, messages), tuple(chosen), tuple(other), _gap(row))


def _scored(row: Values, prompt_of: Callable[[Values, list[Message]], Conversation], rejected: Rejected) -> Pair:
    """The best of several completions, and the worst, or a random one of those with a lower score."""
    name = one_name(row, COMPLETION_FIELDS)
    value, scores = row[name], row.get(SCORES_FIELD)
    if not isinstance(value, list) or len(value) < 2:
        raise MalformedError(f"{name} is {described(value)}; valid: an array of at least two completions with scores")
    if scores is not None and (not isinstance(scores, list) or len(scores) != len(value)):
        raise MalformedError(f"scores are not as many as {name}; valid: one for each")
    answers = []
    for index, completion in enumerate(value):
        where = f"{name}[{index}]"
        if isinstance(completion, dict) and not {"role", "from"} & completion.keys():
            content = next((completion[key] for key in _ANSWER_OF_COMPLETION if completion.get(key) is not None), None)
            score = next((completion[key] for key in _SCORE_OF_COMPLETION if completion.get(key) is not None), None)
        else:
            content, score = completion, None
        score = scores[index] if scores is not None else score
        answers.append((_number(score, f"the score of {where}"), tuple(messages_of(content, where, "assistant"))))
    best = max(range(len(answers)), key=lambda index: answers[index][0])  # of equal ones the first
    lower = [index for index in range(len(answers)) if answers[index][0] < answers[best][0]] or [(best + 1) % len(answers)]
    if rejected == "worst":
        other = min(lower, key=lambda index: answers[index][0])
    else:
        # The same one whatever is around it.
        seed = json.dumps([asdict(message) for _, answer in answers for message in answer], sort_keys=True).encode()
        other = lower[int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest(), "little") % len(lower)]
    messages = asked(row)
    return Pair(prompt_of(row, messages), answers[best][1], answers[other][1], answers[best][0] - answers[other][0])


def _apart(chosen: list[Message], rejected: list[Message]) -> tuple[list[Message], list[Message], list[Message]]:
    """The common beginning of two conversations, and what follows it in each."""
    most = min(len(chosen), len(rejected)) - 1
    common = next((index for index in range(most) if chosen[index] != rejected[index]), most)
    if common == 0:
        raise MalformedError(
            "chosen and rejected begin with different messages: no prompt is the beginning of both; valid: the same prompt"
        )
    for name, messages in (("chosen", chosen), ("rejected", rejected)):
        if messages[common].role != "assistant":
            raise MalformedError(
                f"chosen and rejected part at message {common + 1}, which in {name} is by {messages[common].role} and so no answer to one "
                "prompt; valid: conversations that are the same up to an answer of the assistant"
            )
    return chosen[:common], chosen[common:], rejected[common:]


def _check_prompt(row: Values, messages: list[Message]) -> None:
    """Raise MalformedError where a row has a prompt beside whole conversations, and it is not the one that they begin with. What stands
    under `input` may be anything there."""
    name = _given(row, tuple(name for name in PROMPT_FIELDS if name != APPLIED_TO))
    if name is None:
        return
    given = messages_of(row[name], name, "user")
    said = [message.content.strip() for message in messages]
    if any(message.content.strip() not in said for message in given):
        raise MalformedError(f"{name} is not in the beginning that chosen and rejected have in common; valid: the same prompt, or none")


def unicode_text(row: Values, names: tuple[str, ...]) -> str:
    """The text under the one of these names that the row has."""
    name = one_name(row, names)
    found = text(row[name], name)
    try:
        found.encode()
    except UnicodeEncodeError:
        raise MalformedError("it holds half a surrogate pair, which is not Unicode text") from None
    return found


def messages_of(value: Any, name: str, role: Literal["user", "assistant"]) -> list[Message]:
    """Messages, or a text that is said by this role."""
    if isinstance(value, list):
        return turns(value, name, lambda field: None)
    return [Message(role, text(value, name))]


def asked(row: Values) -> list[Message]:
    """The prompt, as what the user says; what an instruction is to be applied to (`input`) stands behind it."""
    name = one_name(row, PROMPT_FIELDS)
    messages = messages_of(row[name], name, "user")
    if messages and (given := _applied_to(row, name)):
        messages[-1] = replace(messages[-1], content=f"{messages[-1].content}\n\n{given}")
    return messages


def asked_text(row: Values) -> str:
    """The same as plain text."""
    name = one_name(row, PROMPT_FIELDS)
    prompt, given = unicode_text(row, (name,)), _applied_to(row, name)
    return f"{prompt}\n\n{given}" if given else prompt


def _applied_to(row: Values, name: str) -> str:
    """What the prompt under this name is to be applied to: the text under `input`, where an instruction is asked."""
    given = row.get(APPLIED_TO)
    return unicode_text(row, (APPLIED_TO,)) if name == "instruction" and isinstance(given, str) and given.strip() else ""


def _is_answer(messages: list[Message]) -> bool:
    return not messages or messages[0].role == "assistant"


def _gap(row: Values) -> float | None:
    for names in SCORE_FIELDS:
        if None not in [row.get(name) for name in names]:
            chosen, rejected = (_number(row[name], name) for name in names)
            return chosen - rejected
    return None


def _number(value: Any, name: str) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
    except (TypeError, ValueError):
        raise MalformedError(f"{name} is {described(value)}; valid: a number") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise MalformedError(f"{name} is {value}; valid: a finite number")
    return number


def _given(row: Values, names: tuple[str, ...]) -> str | None:
    """The first of the fields that the row has."""
    return next((name for name in names if row.get(name) is not None), None)


def one_name(row: Values, names: tuple[str, ...]) -> str:
    """The one of these fields that the row has, of prompts the first. Raises MalformedError for none, and for several."""
    found = [name for name in names if row.get(name) is not None]
    if not found:
        there = ", ".join(name for name, value in row.items() if value is not None) or "none"
        raise MalformedError(f"no field {' or '.join(map(repr, names))}; fields there: {there}")
    if len(found) > 1 and names is not PROMPT_FIELDS:
        raise MalformedError(f"both {found[0]} and {found[1]}; valid: one of them")
    return found[0]


def _one(row: Values, names: tuple[str, ...]) -> Any:
    return row[one_name(row, names)]
