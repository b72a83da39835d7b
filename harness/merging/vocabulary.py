"""Rows of embeddings and output layers, matched by the string of their token, whatever its id in each model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.config.documents import DamagedError, as_mapping, read_json
from harness.config.errors import InputError
from harness.merging.operands import Floats, Rows

Ids = npt.NDArray[np.int64]
SMALLEST_SHARE = 0.5
"""Of the tokens that must be known by the same string; below it vocabularies are others, and rows of the rest would be guesses."""


def read_vocabulary(folder: Path) -> dict[str, int] | None:
    """Token to id, of a tokenizer.json; None where there is none. Raises DamagedError."""
    path = folder / "tokenizer.json"
    try:
        document = as_mapping(read_json(path), path)
    except FileNotFoundError:
        return None
    tokens = as_mapping(document.get("model"), path).get("vocab")
    found: dict[str, int] = {}
    if isinstance(tokens, dict):
        found = {token: index for token, index in tokens.items() if isinstance(index, int)}
    elif isinstance(tokens, list):  # Unigram: pairs of a token and its score
        found = {pair[0]: index for index, pair in enumerate(tokens) if isinstance(pair, list) and pair and isinstance(pair[0], str)}
    added = document.get("added_tokens")
    for entry in added if isinstance(added, list) else []:
        token, index = (entry.get("content"), entry.get("id")) if isinstance(entry, dict) else (None, None)
        if not isinstance(token, str) or not isinstance(index, int):
            raise DamagedError(path, "an entry of added_tokens has no content or no id")
        found[token] = index
    if not found or min(found.values()) < 0 or max(found.values()) > 100_000_000:
        raise DamagedError(path, "its vocabulary has no tokens, or ids that no model has")
    return found


def own_rows(wanted: Mapping[str, int], rows: int, own: Mapping[str, int], own_count: int) -> Ids | None:
    """For each row of the result the model's own row, int64 [rows], -1 where it has none; None where they are the same rows throughout.

    wanted, own: token to id. Rows of no token (padding) are matched by their place.
    """
    places = np.arange(rows)
    # By place what is padding in both; a row that is a token's there is not one of padding here.
    tokens_there = np.fromiter(own.values(), dtype=np.int64)
    found: Ids = np.where((places < own_count) & ~np.isin(places, tokens_there), places, -1)
    for token, index in wanted.items():
        if index < rows:
            place = own.get(token, -1)
            found[index] = place if place < own_count else -1
    same = rows == own_count and bool((found == places).all())
    return None if same else found


def refuse_other_vocabulary(frame: str, wanted: Mapping[str, int], label: str, own: Mapping[str, int]) -> None:
    """Raise InputError where most tokens of the result are unknown to a model."""
    shared = sum(token in own for token in wanted)
    if shared < SMALLEST_SHARE * len(wanted):
        raise InputError(
            f"{label}: its vocabulary does not align with that of {frame}: {shared:,} of {len(wanted):,} tokens are in both. Valid: models "
            "of one family of tokenizers"
        )


@dataclass(frozen=True)
class AlignedRows:
    """A model's rows in the order of the result; where it has none, those of `fallback`."""

    own: Rows
    index: Ids
    fallback: Rows

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.index), self.own.shape[1]

    def read(self, start: int, stop: int) -> Floats:
        index = self.index[start:stop]
        result = self.fallback.read(start, stop) if (index < 0).any() else np.empty((len(index), self.shape[1]), dtype=np.float32)
        for place, first, count in _runs(index):
            if first >= 0:
                result[place : place + count] = self.own.read(first, first + count)
        return result


@dataclass(frozen=True)
class OwnersMean:
    """For each row the mean of the models that have it; zero where none has it."""

    owners: Sequence[tuple[Rows, Ids]]
    columns: int

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.owners[0][1]), self.columns

    def read(self, start: int, stop: int) -> Floats:
        total, counts = np.zeros((stop - start, self.columns), dtype=np.float64), np.zeros((stop - start, 1))
        zero = ZeroRows(self.shape)
        for rows, index in self.owners:
            total += AlignedRows(rows, index, zero).read(start, stop)
            counts[:, 0] += index[start:stop] >= 0
        return (total / np.maximum(counts, 1.0)).astype(np.float32)


@dataclass(frozen=True)
class ZeroRows:
    """Nothing."""

    shape: tuple[int, int]

    def read(self, start: int, stop: int) -> Floats:
        return np.zeros((stop - start, self.shape[1]), dtype=np.float32)


def _runs(index: Ids) -> Iterator[tuple[int, int, int]]:
    """Place, first own row and length of each run of rows that follow one another in both; missing ones have a first row below 0."""
    breaks = np.flatnonzero((np.diff(index) != 1) | (index[:-1] < 0)) + 1
    starts = [0, *map(int, breaks)]
    for place, end in zip(starts, [*starts[1:], len(index)], strict=True):
        if end > place:
            yield place, int(index[place]), end - place
