"""What models are evaluated on, as runs of words: where a text has some of them.

n-grams of 13 words, as GPT-3 was decontaminated by (arXiv 2005.14165, appendix C): so many are hardly the same by chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.config.errors import InputError
from harness.data.row import Row as FileRow
from harness.data.rows import VALID_ROW_ENDINGS, holds_rows, nothing_in, read_rows
from harness.data.sources import find_sources
from harness.runs.cache import default_cache_dir
from harness.synthesis.words import run_hashes, words_of

SHORTEST_WHOLE = 8
"""An evaluation text with fewer words than an n-gram counts as a whole if it has so many; a shorter one, such as an answer of one word,
would be found everywhere."""


class Place(NamedTuple):
    """A row that models are evaluated on."""

    path: str
    """As decontaminate.against has it."""
    where: str
    """File and line."""


class Overlap(NamedTuple):
    """Words of a text that an evaluation row has, too."""

    place: Place
    words: str


@dataclass(frozen=True)
class EvaluationTexts:
    """The n-grams of evaluation rows."""

    places: Sequence[Place]
    """Of all rows, in order."""
    runs: dict[int, dict[int, int]]
    """By length in words, by the hash of the run: the first row that has it, as an index of `places`."""

    def overlap(self, text: str) -> Overlap | None:
        """The first words that a text has in common with them, long runs before short ones; None where there are none."""
        words = words_of(text)
        for length in sorted(self.runs, reverse=True):
            known = self.runs[length]
            for start, run in enumerate(run_hashes(words, length).tolist()):
                if run in known:
                    return Overlap(self.places[known[run]], " ".join(words[start : start + length]))
        return None


def evaluation_texts(rows: Iterable[tuple[Place, Any]], ngram: int) -> EvaluationTexts:
    """rows: each with its place; all texts in it count, those within arrays and objects, too."""
    places: list[Place] = []
    runs: dict[int, dict[int, int]] = {ngram: {}}
    for place, row in rows:
        for text in texts_in(row):
            words = words_of(text)
            length = min(ngram, len(words))
            if length == ngram or length >= SHORTEST_WHOLE:
                known = runs.setdefault(length, {})
                for run in run_hashes(words, length).tolist():
                    known.setdefault(run, len(places))
        places.append(place)
    return EvaluationTexts(places, runs)


def read_evaluation_rows(paths: Sequence[str]) -> Iterator[tuple[Place, dict[str, Any]]]:
    """The rows of decontaminate.against. Raises InputError for what cannot be read, and where a path has none."""
    for path in paths:
        key = "decontaminate.against"
        files = find_sources(path, key=key, cache_dir=default_cache_dir(None), bare=True).files
        empty = True
        for file in files:
            if not holds_rows(file):
                raise InputError(f"{key}: {file}: a text file holds no rows; valid: {VALID_ROW_ENDINGS}")
            first: FileRow | None = next(read_rows(file, [], key=key), None)  # of Parquet and Arrow, only its columns' names
            for row in read_rows(file, first.fields if first else [], key=key):
                yield Place(path, row.where.removeprefix(f"{key}: ")), row.values
                empty = False
        if empty:
            raise nothing_in(files, "row", key=key)


def texts_in(value: Any) -> Iterator[str]:
    """All texts in a plain value; keys of objects are none."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inside in value.values():
            yield from texts_in(inside)
    elif isinstance(value, list | tuple):
        for inside in value:
            yield from texts_in(inside)
