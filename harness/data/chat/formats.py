"""Parse rows of the usual formats of instruction data into conversations. Errors name the file and the row."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from harness.config.errors import InputError
from harness.config.schema import Rejected
from harness.data.chat.conversation import Conversation, MalformedError, Message, check_turns
from harness.data.chat.parts import TRAINING_FIELDS, Values, json_of, object_of, text, tools, training, turns
from harness.data.preference.labelled import LABEL_FIELD, LabelledAnswer, parse_labelled
from harness.data.preference.pair import PAIR_FIELDS, Pair, holds_pair, parse_pair, whole
from harness.data.row import BadRows, Row, described
from harness.data.rows import VALID_ROW_ENDINGS, holds_rows, nothing_in, read_rows

log = logging.getLogger("harness")

DETECTED_FROM = 10
"""How many rows are read to detect a file's format."""
SYSTEM_FIELDS = ("system", "system_prompt")
TOOLS_FIELDS = ("tools", "functions")
ANSWER_FIELDS = ("output", "response")
FIELDS: dict[str, tuple[str, ...]] = {
    "sharegpt": ("conversations", "messages"),
    "messages": ("messages", "conversations"),
    "alpaca": ("instruction", "input", *ANSWER_FIELDS, "history", *TRAINING_FIELDS),
    "prompt_completion": ("prompt", "completion", *TRAINING_FIELDS),
    "preference": PAIR_FIELDS,
}
"""What each format reads of a row, besides what all read."""
KWARGS_FIELD = "chat_template_kwargs"
COMMON_FIELDS = (*SYSTEM_FIELDS, *TOOLS_FIELDS, KWARGS_FIELD)
ABOUT_THE_ROW = {
    *("id", "_id", "idx", "index", "uid", "uuid", "row_id", "prompt_id", "conversation_id", "message_id", "parent_id", "hash", "split"),
    *("source", "dataset", "data_source", "origin", "url", "license", "language", "lang", "category", "subcategory", "topic", "domain"),
    *("task", "type", "kind", "tags", "labels", "metadata", "meta", "date", "created", "created_at", "timestamp", "time", "model"),
    *("score", "rating", "quality", "difficulty", "num_turns", "num_tokens", "length"),
}
"""Fields that say something about a row, and are nothing to train on: not worth a word."""
READ = tuple(dict.fromkeys([*COMMON_FIELDS, *chain.from_iterable(FIELDS.values()), LABEL_FIELD]))


class ChatDocument(NamedTuple):
    """A conversation, its place (for messages), and how many bytes of its files were read up to its end."""

    conversation: Conversation
    where: str
    position: int
    identity: str | None = None
    """What it is held out by, where it is not its text: of a pair's chosen answer, its prompt."""

    @property
    def characters(self) -> int:
        return self.conversation.characters


def read_conversations(files: Sequence[Path], chat_format: str, *, key: str, bad: BadRows | None = None) -> Iterator[ChatDocument]:
    """The conversations of the files, in order; `chat_format` as data.sources.<name>.format; auto: detected from each file's first rows.

    Raises InputError, naming the file, the line and what would be valid, for the first row that is no conversation, and when there is none;
    bad: what becomes of such rows, instead. One warning names the fields that are not read.
    """
    before, empty = 0, True
    bad = bad or BadRows()
    unread: dict[str, str] = {}
    for file in files:
        if not holds_rows(file):
            raise InputError(
                f"{key}: {file}: a text file holds no conversations; valid: {VALID_ROW_ENDINGS}, or {key}.format=text "
                "for plain text, every token of which is trained"
            )
        rows = read_rows(file, READ, key=key, bad=bad)
        name = chat_format
        if chat_format == "auto":
            first = list(islice(rows, DETECTED_FROM))
            rows = chain(first, rows)
            name = _detected(first, key, bad) if first else "messages"
        for row in rows:
            try:
                conversation, identity = _conversation(row, name, unread)
            except InputError as problem:
                bad.add(problem)
                continue
            yield ChatDocument(conversation, row.where, before + row.position, identity)
            empty = False
        before += file.stat().st_size
    if unread:
        some = ", ".join(list(unread)[:8]) + (", …" if len(unread) > 8 else "")
        log.warning("%s: fields that are not read, first in %s: %s", key, next(iter(unread.values())).removeprefix(f"{key}: "), some)
    if empty and not bad.count:
        raise nothing_in(files, "conversation", key=key)


def begins_with_conversation(file: Path, field: str, *, key: str) -> bool:
    """Whether the first row of a file is a conversation, and not plain text in `field`.

    Raises InputError when it is neither, or cannot be read.
    """
    if not holds_rows(file):
        return False
    row = next(read_rows(file, [*READ, field], key=key), None)
    if row is None:
        return False  # reading it as text says that there is none
    try:
        _format_of(row, key)
    except InputError:
        if field not in row.values:
            raise
        return False
    return True


def _detected(rows: Sequence[Row], key: str, bad: BadRows) -> str:
    found: dict[str, Row] = {}
    problems = []
    for row in rows:
        try:
            found.setdefault(_format_of(row, key), row)
        except InputError as problem:
            problems.append(problem)
    if len(found) > 1:
        names = ", ".join(f"{name} ({row.where.removeprefix(f'{key}: ')})" for name, row in found.items())
        raise InputError(f"{key}: rows of several formats in one file: {names}; valid: one format a file, or {key}.format=…")
    if not found:
        raise problems[0]
    if problems and not bad.skips:
        raise problems[0]
    return next(iter(found))


def _format_of(row: Row, key: str) -> str:
    given = {name for name, value in row.values.items() if value is not None}
    if holds_pair(row.values):
        return "preference"
    if "messages" in given:
        return "messages"
    if "conversations" in given:
        return "sharegpt"
    if "instruction" in given:
        return "alpaca"
    if {"prompt", "completion"} <= given:
        return "prompt_completion"
    raise InputError(
        f"{row.where}: no known format of conversations (fields there: {', '.join(row.fields) or 'none'}). Valid: messages; conversations "
        "(sharegpt); instruction with output or response (alpaca); prompt with completion; chosen with rejected (preference); or "
        f"{key}.format=text for plain text"
    )


def _conversation(row: Row, chat_format: str, unread: dict[str, str]) -> tuple[Conversation, str | None]:
    """The conversation of a row, of a pair that with the chosen answer; and the latter's identity."""

    def not_read(name: str) -> None:
        if name not in ABOUT_THE_ROW:
            unread.setdefault(name, row.where)

    identity = None
    try:
        if chat_format == "preference":
            pair = pair_of(row.values)
            conversation, identity = whole(pair.prompt, pair.chosen), pair.identity
        else:
            conversation = unchecked_conversation(row.values, chat_format, not_read)
        check_turns(conversation.messages)
    except MalformedError as error:
        raise InputError(f"{row.where}: {error}") from None
    known = {*COMMON_FIELDS, *FIELDS[chat_format]}
    for name in (*(name for name, value in row.values.items() if value not in (None, "", [])), *row.unread):
        if name not in known:
            not_read(name)
    return conversation, identity


def pair_of(row: Values, *, rejected: Rejected = "worst") -> Pair:
    """A row's pair of answers, in whatever shape. rejected: which of several scored completions. Raises MalformedError."""
    return parse_pair(row, _with_what_is_beside, rejected=rejected)


def labelled_answer_of(row: Values) -> LabelledAnswer:
    """A row's answer with its label. Raises MalformedError."""
    return parse_labelled(row, _with_what_is_beside)


def unchecked_conversation(row: Values, chat_format: str, not_read: Callable[[str], None]) -> Conversation:
    """A row's messages, in whatever order, and its tools. not_read: told of each field that is not read. Raises MalformedError."""
    return _with_what_is_beside(row, PARSERS[chat_format](row, not_read))


def _with_what_is_beside(row: Values, messages: list[Message]) -> Conversation:
    """The messages, with the system message, the tools and the variables of the template that the row has beside them."""
    messages = _with_system(row, messages)
    given = [row[name] for name in TOOLS_FIELDS if row.get(name)]
    if len(given) > 1:
        raise MalformedError("both tools and functions; valid: one of them")
    kwargs = object_of(json_of(row.get(KWARGS_FIELD) or {}, KWARGS_FIELD), KWARGS_FIELD)
    return Conversation(tuple(messages), tools(given[0] if given else None), kwargs)


def _with_system(row: Values, messages: list[Message]) -> list[Message]:
    """The messages, with the system message that the row has beside them."""
    given = {text(row[name], name).strip(): row[name] for name in SYSTEM_FIELDS if row.get(name)}
    given.pop("", None)
    first = messages[0] if messages else None
    if first is not None and first.role == "system":
        given.pop(first.content.strip(), None)
        if given:
            raise MalformedError("a system message beside the one among its messages; valid: one of them")
        return messages
    if len(given) > 1:
        raise MalformedError(f"both {' and '.join(SYSTEM_FIELDS)}; valid: one of them")
    return [*(Message("system", content) for content in given.values()), *messages]


# The formats.


def _by_turns(row: Values, unread: Callable[[str], None]) -> list[Message]:
    field = "conversations" if row.get("messages") is None and "conversations" in row else "messages"
    if field not in row:
        raise MalformedError(f"no field {field!r}; fields there: {', '.join(row) or 'none'}")
    other = row.get("conversations" if field == "messages" else "messages")
    if other and other != row[field]:
        raise MalformedError("both messages and conversations; valid: one of them")
    value = row[field]
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = json_of(value, field)
    if not isinstance(value, list):
        raise MalformedError(f"{field} is {described(value)}; valid: an array of messages")
    return turns(value, field, unread)


def _alpaca(row: Values, unread: Callable[[str], None]) -> list[Message]:
    if row.get("instruction") is None:
        raise MalformedError(f"no field 'instruction'; fields there: {', '.join(row) or 'none'}")
    answers = {name: row[name] for name in ANSWER_FIELDS if row.get(name) is not None}
    if not answers:
        raise MalformedError(f"no field 'output' or 'response'; fields there: {', '.join(row)}")
    messages = []
    history = row.get("history") or []
    if not isinstance(history, list):
        raise MalformedError(f"history is {described(history)}; valid: an array of pairs [instruction, answer]")
    for number, pair in enumerate(history):
        if not (isinstance(pair, list | tuple) and len(pair) == 2):
            raise MalformedError(f"history[{number}] is {described(pair)}; valid: a pair [instruction, answer]")
        messages.append(Message("user", text(pair[0], f"history[{number}][0]")))
        messages.append(Message("assistant", text(pair[1], f"history[{number}][1]")))
    question = text(row["instruction"], "instruction")
    given = text(row.get("input") or "", "input")
    messages.append(Message("user", f"{question}\n\n{given}" if given.strip() else question))
    if len(set(map(str, answers.values()))) > 1:
        raise MalformedError(f"both {' and '.join(answers)}; valid: one of them")
    name, answer = next(iter(answers.items()))
    messages.append(Message("assistant", text(answer, name), **training(row, answer, "")))
    return messages


def _prompt_completion(row: Values, unread: Callable[[str], None]) -> list[Message]:
    messages: list[Message] = []
    for field in ("prompt", "completion"):
        value = row.get(field)
        if isinstance(value, list):
            messages += turns(value, field, unread)
        elif field == "prompt":
            messages.append(Message("user", text(value, field)))
        else:
            content = text(value, field)
            messages.append(Message("assistant", content, **training(row, content, "")))
    return messages


PARSERS: dict[str, Callable[[Values, Callable[[str], None]], list[Message]]] = {
    "sharegpt": _by_turns,
    "alpaca": _alpaca,
    "messages": _by_turns,
    "prompt_completion": _prompt_completion,
}
