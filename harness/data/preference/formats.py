"""Pairs of answers from files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.config.errors import InputError
from harness.config.schema import Rejected
from harness.data.chat.conversation import MalformedError
from harness.data.chat.formats import READ, pair_of
from harness.data.preference.pair import Pair, TextPair, holds_pair, parse_text_pair
from harness.data.row import BadRows
from harness.data.rows import VALID_ROW_ENDINGS, holds_rows, nothing_in, read_rows

VALID = (
    "prompt, chosen and rejected (texts or messages); chosen and rejected as whole conversations; or instruction with completions and "
    "their scores"
)


class PairDocument(NamedTuple):
    """A pair, its place (for messages), and how many bytes of its files were read up to its end."""

    pair: Pair | TextPair
    where: str
    position: int

    @property
    def characters(self) -> int:
        return self.pair.characters


def read_pairs(files: Sequence[Path], *, as_text: bool, rejected: Rejected, key: str, bad: BadRows) -> Iterator[PairDocument]:
    """The pairs of the files, in order. as_text: texts that go on from texts, instead of turns; rejected: of several scored completions.

    Raises InputError, naming the file, the line and what would be valid, for the first row that is no pair, and when there is none; bad:
    what becomes of such rows, instead.
    """
    before, empty = 0, True
    for file in files:
        if not holds_rows(file):
            raise InputError(f"{key}: {file}: a text file holds no pairs of answers; valid: {VALID_ROW_ENDINGS}")
        for row in read_rows(file, READ, key=key, bad=bad):
            try:
                pair = parse_text_pair(row.values) if as_text else pair_of(row.values, rejected=rejected)
            except MalformedError as error:
                known = holds_pair(row.values)
                bad.add(InputError(f"{row.where}: {error}" if known else f"{row.where}: no pair of answers ({error}). Valid: {VALID}"))
                continue
            yield PairDocument(pair, row.where, before + row.position)
            empty = False
        before += file.stat().st_size
    if empty and not bad.count:
        raise nothing_in(files, "pair of answers", key=key)


def begins_with_pair(file: Path, *, key: str) -> bool:
    """Whether the first row of a file is a pair of answers. Raises InputError when it cannot be read."""
    row = next(read_rows(file, READ, key=key), None) if holds_rows(file) else None
    return row is not None and holds_pair(row.values)
