"""Pairs of answers, and answers with labels, from files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from harness.config.errors import InputError
from harness.config.schema import Rejected
from harness.data.chat.conversation import MalformedError
from harness.data.chat.formats import READ, labelled_answer_of, pair_of
from harness.data.chat.parts import Values
from harness.data.preference.labelled import LabelledAnswer, holds_label, parse_labelled_text
from harness.data.preference.pair import Pair, TextPair, holds_pair, parse_text_pair
from harness.data.row import BadRows
from harness.data.rows import VALID_ROW_ENDINGS, holds_rows, nothing_in, read_rows

VALID = (
    "prompt, chosen and rejected (texts or messages); chosen and rejected as whole conversations; or instruction with completions and "
    "their scores"
)
VALID_LABELLED = "prompt, completion (texts or messages) and label, true or false"
T = TypeVar("T")


class PairDocument(NamedTuple):
    """A pair, its place (for messages), and how many bytes of its files were read up to its end."""

    content: Pair | TextPair
    where: str
    position: int

    @property
    def characters(self) -> int:
        return self.content.characters


class LabelledDocument(NamedTuple):
    """An answer with its label, its place (for messages), and how many bytes of its files were read up to its end."""

    content: LabelledAnswer
    where: str
    position: int

    @property
    def characters(self) -> int:
        return self.content.characters


def read_pairs(files: Sequence[Path], *, as_text: bool, rejected: Rejected, key: str, bad: BadRows) -> Iterator[PairDocument]:
    """The pairs of the files, in order. as_text: texts that go on from texts, instead of turns; rejected: of several scored completions.

    Raises InputError, naming the file, the line and what would be valid, for the first row that is no pair, and when there is none; bad:
    what becomes of such rows, instead.
    """

    def parse(row: Values) -> Pair | TextPair:
        try:
            return parse_text_pair(row) if as_text else pair_of(row, rejected=rejected)
        except MalformedError as error:
            raise error if holds_pair(row) else MalformedError(f"no pair of answers ({error}). Valid: {VALID}") from None

    for pair, where, position in _parsed(files, parse, "pair of answers", key=key, bad=bad):
        yield PairDocument(pair, where, position)


def read_labelled(files: Sequence[Path], *, as_text: bool, key: str, bad: BadRows) -> Iterator[LabelledDocument]:
    """The answers with labels of the files, in order; otherwise as `read_pairs`."""

    def parse(row: Values) -> LabelledAnswer:
        try:
            return parse_labelled_text(row) if as_text else labelled_answer_of(row)
        except MalformedError as error:
            raise error if holds_label(row) else MalformedError(f"no answer with a label ({error}). Valid: {VALID_LABELLED}") from None

    for answer, where, position in _parsed(files, parse, "answer with a label", key=key, bad=bad):
        yield LabelledDocument(answer, where, position)


def read_chosen_texts(files: Sequence[Path], *, key: str, bad: BadRows) -> Iterator[LabelledDocument]:
    """The chosen answers of the files' pairs of texts, in order; otherwise as `read_pairs`."""
    for pair, where, position in read_pairs(files, as_text=True, rejected="worst", key=key, bad=bad):
        assert isinstance(pair, TextPair)
        yield LabelledDocument(LabelledAnswer(pair.prompt, pair.chosen, label=True), where, position)


def _parsed(files: Sequence[Path], parse: Callable[[Values], T], what: str, *, key: str, bad: BadRows) -> Iterator[tuple[T, str, int]]:
    """What `parse` makes of each row, its place, and how many bytes were read up to its end."""
    before, empty = 0, True
    for file in files:
        if not holds_rows(file):
            raise InputError(f"{key}: {file}: a text file holds no {what}; valid: {VALID_ROW_ENDINGS}")
        for row in read_rows(file, READ, key=key, bad=bad):
            try:
                content = parse(row.values)
            except MalformedError as error:
                bad.add(InputError(f"{row.where}: {error}"))
                continue
            yield content, row.where, before + row.position
            empty = False
        before += file.stat().st_size
    if empty and not bad.count:
        raise nothing_in(files, what, key=key)


def begins_with_pair(file: Path, *, key: str) -> bool:
    """Whether the first row of a file is a pair of answers. Raises InputError when it cannot be read."""
    return _first_row(file, holds_pair, key=key)


def begins_with_label(file: Path, *, key: str) -> bool:
    """Whether the first row of a file is an answer with a label. Raises InputError when it cannot be read."""
    return _first_row(file, holds_label, key=key)


def _first_row(file: Path, holds: Callable[[Values], bool], *, key: str) -> bool:
    row = next(read_rows(file, READ, key=key), None) if holds_rows(file) else None
    return row is not None and holds(row.values)
