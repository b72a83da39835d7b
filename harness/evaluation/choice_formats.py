"""Rows of multiple-choice sets to questions. What is wrong in a row is reported with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.errors import InputError
from harness.data.row import Row, described
from harness.data.rows import VALID_ROW_ENDINGS, holds_rows, read_rows

QUESTION_FIELDS = ("query", "question", "context")
ANSWER_FIELDS = ("gold", "answer", "label")
FIELDS = (*QUESTION_FIELDS, *ANSWER_FIELDS, "choices", "answerKey", "goal", "sol1", "sol2", "ctx", "endings")
"""All that a format reads."""
ANSWER_DELIMITER = "\nAnswer: "
CONTINUATION_DELIMITER = " "


@dataclass(frozen=True)
class Question:
    """A question, its choices, and which of them is right."""

    text: str
    choices: tuple[str, ...]
    answer: int
    """Index of the right choice."""
    delimiter: str
    """What stands between the question and a choice, unless the configuration says otherwise."""


def read_questions(files: Sequence[Path], choice_format: str, *, key: str) -> Iterator[Question]:
    """The questions of the files, in order; `choice_format` as data.multiple_choice.<name>.format, auto: told from each file's first row.

    Raises InputError, naming the configuration `key`, the file and the place, for the first row that is none; and when there is none.
    """
    empty = True
    for file in files:
        if not holds_rows(file):
            raise InputError(f"{key}: {file}: a text file holds no questions; valid: {VALID_ROW_ENDINGS}")
        parse = None if choice_format == "auto" else PARSERS[choice_format]
        for row in read_rows(file, FIELDS, key=key):
            parse = parse or PARSERS[_format_of(row)]
            yield parse(row)
            empty = False
    if empty:
        raise InputError(f"{key}: no question in {', '.join(map(str, files[:3]))}{', …' if len(files) > 3 else ''}")


def _format_of(row: Row) -> str:
    fields = row.values.keys()
    if {"goal", "sol1", "sol2"} <= fields:
        return "piqa"
    if {"ctx", "endings"} <= fields:
        return "hellaswag"
    if isinstance(row.values.get("choices"), dict):
        return "arc"
    if "choices" in fields:
        return "plain"
    key = row.where.partition(":")[0]
    raise InputError(
        f"{row.where}: no multiple-choice question ({key}.format=auto); fields there: {', '.join(row.fields) or 'none'}; valid: "
        "query, choices, gold (plain); question, choices, answerKey (arc); goal, sol1, sol2, label (piqa); ctx, endings, label (hellaswag)"
    )


def _plain(row: Row) -> Question:
    return _question(row, _first_of(row, QUESTION_FIELDS), _field(row, "choices"), _first_of(row, ANSWER_FIELDS))


def _arc(row: Row) -> Question:
    choices = _field(row, "choices")
    if not isinstance(choices, dict) or not {"text", "label"} <= choices.keys():
        raise InputError(f"{row.where}: 'choices' is {described(choices)}; valid: an object of text and label, both arrays")
    answer, labels = _field(row, "answerKey"), choices["label"]
    if answer not in labels:
        raise InputError(f"{row.where}: 'answerKey' is {answer!r}, none of the choices' labels: {', '.join(map(str, labels))}")
    return _question(row, _field(row, "question"), choices["text"], labels.index(answer))


def _piqa(row: Row) -> Question:
    return _question(row, _field(row, "goal"), [_field(row, "sol1"), _field(row, "sol2")], _field(row, "label"))


def _hellaswag(row: Row) -> Question:
    return _question(row, _field(row, "ctx"), _field(row, "endings"), _field(row, "label"), CONTINUATION_DELIMITER)


PARSERS: dict[str, Callable[[Row], Question]] = {"plain": _plain, "arc": _arc, "piqa": _piqa, "hellaswag": _hellaswag}


def _question(row: Row, text: Any, choices: Any, answer: Any, delimiter: str = ANSWER_DELIMITER) -> Question:
    if not isinstance(text, str):
        raise InputError(f"{row.where}: the question is {described(text)}, not a string")
    if not isinstance(choices, list) or not all(isinstance(choice, str) and choice.strip() for choice in choices):
        raise InputError(f"{row.where}: the choices are {described(choices)}; valid: an array of strings, none of them empty")
    if len(choices) < 2:
        raise InputError(f"{row.where}: {len(choices)} choices; valid: at least two")
    return Question(text.rstrip(), tuple(choice.strip() for choice in choices), _index(row, answer, choices), delimiter)


def _index(row: Row, answer: Any, choices: list[str]) -> int:
    """The right choice: given by its index, as a number or as text, by a letter, or by its text."""
    if isinstance(answer, str) and answer in choices:
        return choices.index(answer)
    index = -1
    if isinstance(answer, int) and not isinstance(answer, bool):
        index = answer
    elif isinstance(answer, str) and answer.isascii() and answer.isdigit():
        index = int(answer)
    elif isinstance(answer, str) and len(answer) == 1 and answer.isalpha():
        index = ord(answer.upper()) - ord("A")
    if not 0 <= index < len(choices):
        last = len(choices) - 1
        raise InputError(
            f"{row.where}: the answer is {answer!r}; valid for these {len(choices)} choices: an index from 0 to {last}, "
            f"a letter from A to {chr(ord('A') + last)}, or the text of a choice"
        )
    return index


def _first_of(row: Row, names: Sequence[str]) -> Any:
    for name in names:
        if name in row.values:
            return row.values[name]
    raise InputError(f"{row.where}: none of the fields {', '.join(names)}; fields there: {', '.join(row.fields)}")


def _field(row: Row, name: str) -> Any:
    if name not in row.values:
        raise InputError(f"{row.where}: no field {name!r}; fields there: {', '.join(row.fields)}")
    return row.values[name]
