"""Samples of what is trained on, as text: whole conversations or pairs with their trained tokens, or packed rows with their documents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.data.text_encoder import TokenizerLike
from harness.data.training_data import PackedSource, TrainingData


@dataclass(frozen=True)
class Part:
    """A stretch of text whose tokens are all trained or not, all control tokens or not."""

    text: str
    trained: bool
    control: bool
    """Whether it is made of control tokens, not of text that looks like them."""


@dataclass(frozen=True)
class Piece:
    """A document, or the part of it that is in a row."""

    source: str
    document: int
    """Its number in the source, from 1, in the order of the files; of an answer that of its pair."""
    first_token: int
    """Where the piece begins in the document."""
    tokens: int
    trained_tokens: int
    """Predictions that the loss is on."""
    parts: list[Part]
    answer: Literal["chosen", "rejected", "good", "bad"] | None = None
    """Which of a pair's answers it is, or what its label calls it."""


@dataclass(frozen=True)
class Sample:
    """A conversation, a pair of answers, an answer with a label, or a row."""

    name: str
    pieces: list[Piece]

    @property
    def tokens(self) -> int:
        return sum(piece.tokens for piece in self.pieces)

    @property
    def trained_tokens(self) -> int:
        return sum(piece.trained_tokens for piece in self.pieces)


def preview(data: TrainingData, tokenizer: TokenizerLike, count: int) -> list[Sample]:
    """The first `count` samples: where there are conversations, documents of all sources in turn, before they are cut and packed; else
    the first rows of the run."""
    decoder = _Decoder(tokenizer)
    if any(source.documents.trained is not None for source in data.sources):
        return [
            Sample(f"sample {number}", list(_whole(source, document, decoder)))
            for number, (source, document) in enumerate(_in_turn(data, count), start=1)
        ]
    samples = []
    for number, (index, row) in enumerate(zip(*(column.tolist() for column in data.order.rows(0, count)), strict=True)):
        source, packing = data.sources[index], data.sources[index].packing
        mine = slice(packing.row_offsets[row], packing.row_offsets[row + 1])
        places = zip(*(c[mine].tolist() for c in (packing.piece_document, packing.piece_start, packing.piece_length)), strict=True)
        samples.append(Sample(f"row {number}", [_piece(source, document, start, length, decoder) for document, start, length in places]))
    return samples


def _in_turn(data: TrainingData, count: int) -> Iterator[tuple[PackedSource, int]]:
    """The first documents that are trained on, one of each source after the other; of pairs the chosen answers."""
    used = [(source, source.used[:: 2 if source.documents.are_pairs else 1]) for source in data.sources]
    longest = max(len(documents) for _, documents in used)
    drawn = ((source, int(documents[number])) for number in range(longest) for source, documents in used if number < len(documents))
    for _, one in zip(range(count), drawn, strict=False):
        yield one


def _whole(source: PackedSource, document: int, decoder: _Decoder) -> Iterator[Piece]:
    """A document, or both answers of a pair of which it is the first."""
    lengths = source.documents.lengths
    if not source.documents.are_pairs:
        piece, labels = _piece(source, document, 0, int(lengths[document]), decoder), source.documents.labels
        yield piece if labels is None else replace(piece, answer="good" if labels[document] else "bad")
        return
    answers: tuple[Literal["chosen", "rejected"], ...] = ("chosen", "rejected")
    for at, answer in enumerate(answers, start=document):
        piece = _piece(source, at, 0, int(lengths[at]), decoder)
        yield replace(piece, document=document // 2 + 1, answer=answer)


def _piece(source: PackedSource, document: int, start: int, length: int, decoder: _Decoder) -> Piece:
    first = int(source.documents.offsets[document]) + start
    ids = np.asarray(source.documents.tokens[first : first + length])
    masked = source.documents.trained
    trained = np.ones(length, dtype=np.bool_) if masked is None else np.asarray(masked[first : first + length])
    return Piece(source.name, document + 1, start, length, int(trained[1:].sum()), decoder.parts(ids, trained))


class _Decoder:
    """Ids to text, control tokens included."""

    def __init__(self, tokenizer: TokenizerLike) -> None:
        self._backend = tokenizer.backend_tokenizer
        self._control = frozenset(self._backend.get_added_tokens_decoder())

    def parts(self, ids: NDArray[Any], trained: NDArray[np.bool_]) -> list[Part]:
        kinds = [(is_trained, token in self._control) for token, is_trained in zip(ids.tolist(), trained.tolist(), strict=True)]
        everything = self._text(ids)
        parts, at, begin = [], 0, 0
        for (is_trained, control), group in groupby(kinds):
            at += len(list(group))
            # A group by itself may decode otherwise than in its place: spaces at its edges belong to what stands around it.
            end = len(everything) if at == len(ids) else max(begin, len(self._text(ids[:at])))
            parts.append(Part(everything[begin:end], is_trained, control))
            begin = end
        return parts

    def _text(self, ids: NDArray[Any]) -> str:
        return str(self._backend.decode(ids.tolist(), skip_special_tokens=False))
