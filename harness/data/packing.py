"""Pack documents into rows of a fixed length. Works on lengths alone, never on tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from harness.data.best_fit import best_fit_rows
from harness.data.ragged import Int64, offsets_of, spans, stable_order

PackingName = Literal["best_fit", "concat", "padded"]
Overflow = Literal["split", "truncate", "drop"]
ALL = slice(None)


class _Pieces(NamedTuple):
    """Stretches of documents, each int64[p]."""

    document: Int64
    start: Int64
    length: Int64


@dataclass(frozen=True, eq=False)
class Packing:
    """Rows made of pieces; a piece is a stretch of one document. A row shorter than the context is padded at its end."""

    piece_document: Int64
    """int64[p]: the document that the piece is from."""
    piece_start: Int64
    """int64[p]: its first token, counted within the document."""
    piece_length: Int64
    """int64[p]: its tokens, at least 1; those of the prompt before it are not among them."""
    row_offsets: Int64
    """int64[rows + 1]: row r holds the pieces row_offsets[r] : row_offsets[r + 1], in this order."""
    name: PackingName
    """How documents were laid out; with `padded`, every row holds one piece."""
    context_length: int
    """Tokens that a row has room for."""
    tokens_given: int
    """Tokens of all documents; those that two share count once."""
    documents_cut: int
    """Documents that were split over pieces, truncated or dropped."""
    prompt: int = 0
    """Positions before every piece that a soft prompt takes."""
    shares_prompts: bool = False
    """Whether a piece that begins within its document goes on from the piece before it, which holds what comes before it."""

    @property
    def rows(self) -> int:
        return len(self.row_offsets) - 1

    @property
    def tokens(self) -> int:
        """Real tokens in all rows."""
        return int(self.piece_length.sum())

    def with_rows(self, rows: Int64) -> Packing:
        """These rows (int64[r]) alone, in this order."""
        pieces, counts = self.pieces_of(rows), self.row_offsets[rows + 1] - self.row_offsets[rows]
        return replace(
            self,
            piece_document=self.piece_document[pieces],
            piece_start=self.piece_start[pieces],
            piece_length=self.piece_length[pieces],
            row_offsets=offsets_of(counts),
        )

    def pieces_of(self, rows: Int64) -> Int64:
        """The pieces in these rows (int64[r]), row by row: int64[p]."""
        return spans(self.row_offsets[rows], self.row_offsets[rows + 1] - self.row_offsets[rows])

    def first_tokens(self, document_offsets: Int64, pieces: Int64 | slice = ALL) -> Int64:
        """Where pieces (int64[p]) begin among the tokens of all documents, which begin at these offsets (int64[n + 1]): int64[p]."""
        first: Int64 = document_offsets[self.piece_document[pieces]] + self.piece_start[pieces]
        return first

    @cached_property
    def row_tokens(self) -> Int64:
        """Real tokens in each row: int64[rows]."""
        return np.diff(offsets_of(self.piece_length)[self.row_offsets])

    @cached_property
    def row_positions(self) -> Int64:
        """Positions in each row that are not padding, prompts included: int64[rows]."""
        positions: Int64 = self.row_tokens + self.prompt * np.diff(self.row_offsets)
        return positions

    @cached_property
    def row_targets(self) -> Int64:
        """Predicted tokens in each row, which are all but the first of every piece: int64[rows]."""
        return self.row_tokens - np.diff(self.row_offsets)


def pack(lengths: Int64, context_length: int, packing: PackingName, overflow: Overflow, *, prompt: int = 0) -> Packing:
    """Lay out documents of the given lengths (int64[n], tokens; empty documents take no place) in rows of `context_length` positions.

    best_fit: pieces of up to a row, placed best-fit decreasing; within 1e-4 of the fewest rows possible on real corpora.
    concat: all documents one after the other, cut every `context_length` tokens; the last, partial row is left out unless it is the only
        one. `overflow` plays no part.
    padded: one piece a row, in the order of the documents.
    Documents longer than a row are split into whole rows and a rest, truncated to a row, or dropped (`overflow`).
    Every piece takes `prompt` positions more than its tokens: each begins with the soft prompt.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    match packing:
        case "concat":
            pieces, row_offsets = _concatenate(lengths, context_length, prompt)
        case "padded":
            pieces = _cut(lengths, context_length - prompt, overflow)
            row_offsets = np.arange(len(pieces.length) + 1, dtype=np.int64)
        case "best_fit":
            pieces = _cut(lengths, context_length - prompt, overflow)
            row = best_fit_rows(pieces.length + prompt, context_length)
            # Longest piece first within a row, as placed.
            order = stable_order(context_length - pieces.length)
            order = order[stable_order(row[order])]
            pieces = _Pieces(*(column[order] for column in pieces))
            row_offsets = offsets_of(np.bincount(row))
    return Packing(
        *pieces,
        row_offsets=row_offsets,
        name=packing,
        context_length=context_length,
        tokens_given=int(lengths.sum()),
        documents_cut=_count_cut(lengths, pieces),
        prompt=prompt,
    )


def pack_pairs(lengths: Int64, context_length: int, *, prompt: int = 0, shared: Int64 | None = None) -> Packing:
    """Lay out pairs of documents, 2 i and 2 i + 1, in rows: both in one row, one after the other, best-fit decreasing by what they take
    together. A pair longer than a row is dropped whole; otherwise as `pack`.

    shared: int64[pairs], less than the pair's lengths: so many tokens, with which both documents begin, are laid out in the first alone.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    starts = np.zeros_like(lengths)
    if shared is not None:
        starts[1::2] = np.where(lengths[1::2] > 0, shared, 0)
    taken = lengths - starts
    together = taken.reshape(-1, 2).sum(axis=1)
    # One prompt is counted as the pair's own, as every piece's is; the other one here.
    pairs = pack(np.where(together > 0, together + prompt, 0), context_length, "best_fit", "drop", prompt=prompt)
    document = (2 * pairs.piece_document[:, None] + np.arange(2)).reshape(-1)
    return replace(
        pairs,
        piece_document=document,
        piece_start=starts[document],
        piece_length=taken[document],
        row_offsets=2 * pairs.row_offsets,
        tokens_given=int(taken.sum()),
        documents_cut=2 * pairs.documents_cut,
        shares_prompts=shared is not None,
    )


def _cut(lengths: Int64, context_length: int, overflow: Overflow) -> _Pieces:
    """Documents as pieces of at most `context_length` tokens, in order."""
    match overflow:
        case "split":
            counts = -(-lengths // context_length)
        case "truncate":
            counts = np.minimum(lengths, 1)
        case "drop":
            counts = ((lengths > 0) & (lengths <= context_length)).astype(np.int64)
    document = np.repeat(np.arange(len(lengths), dtype=np.int64), counts)
    start = spans(0, counts) * context_length
    return _Pieces(document, start, np.minimum(lengths[document] - start, context_length))


def _concatenate(lengths: Int64, context_length: int, prompt: int) -> tuple[_Pieces, Int64]:
    """The stream of all documents, cut where a document or a row begins; and the offsets of the rows."""
    ends = np.cumsum(lengths)
    begins = ends - lengths
    total = int(lengths.sum())
    if prompt:
        row_begins = _row_begins(begins[lengths > 0], total, context_length, prompt)
    else:
        rows = max(total // context_length, min(total, 1))
        row_begins = np.arange(rows + 1, dtype=np.int64) * context_length
    kept = min(total, int(row_begins[-1]))
    at = np.union1d(row_begins[:-1], begins[(lengths > 0) & (begins < kept)])
    document = np.searchsorted(ends, at, side="right")
    pieces = _Pieces(document, at - begins[document], np.diff(at, append=kept))
    return pieces, np.searchsorted(at, row_begins)


def _row_begins(begins: Int64, total: int, context_length: int, prompt: int) -> Int64:
    """Where rows begin in a stream of `total` tokens whose documents begin at `begins` (int64[n]), a prompt before every piece, and where
    the last one ends: int64[rows + 1]. One row depends on the one before, hence the loop."""
    # A row that ends at stream position x has room for the first token of document k if reached[k] <= its limit.
    reached = begins + 1 + prompt * np.arange(1, len(begins) + 1)
    found, begun = [0], 0
    while found[-1] < total:
        start = found[-1]
        in_the_middle = begun == len(begins) or begins[begun] > start
        limit = start + context_length + prompt * (begun - in_the_middle)
        begun = int(np.searchsorted(reached, limit, side="right"))
        after = total if begun == len(begins) else int(begins[begun])
        stop = min(limit - prompt * begun, after)
        if stop == total and limit - prompt * begun > total and len(found) > 1:
            break  # the last, partial row
        found.append(stop)
    return np.array(found, dtype=np.int64)


def _count_cut(lengths: Int64, pieces: _Pieces) -> int:
    """Documents that are not exactly one whole piece (empty ones do not count)."""
    whole = int(np.count_nonzero(pieces.length == lengths[pieces.document]))
    return int(np.count_nonzero(lengths)) - whole
