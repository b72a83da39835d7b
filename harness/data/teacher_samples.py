"""Tokens sampled from a teacher's distribution at the positions of a source, on disk.

    <cache>/teacher/<fingerprint>/
        samples.bin   uint16 or uint32 [tokens, S]
        entropy.bin   float32 [tokens]
        drawn.bin     bool [tokens]: which rows of the others are there
        meta.json     dtype and counts

Row t belongs to token t of the source's tokens.bin: it is the teacher's prediction of the next token, given the piece up to token t. The
teacher reads each piece by itself, as the student does in a packed row; so samples belong to a set of pieces, whatever rows these are
packed into. An entry grows: each run draws what its own rows need, and samples never change. Positions that are not drawn yet, or where
nothing is predicted (a piece's last token, the untrained tokens of a conversation), take no space on file systems with sparse files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.data.ragged import Int64, offsets_of, spans, stable_order
from harness.runs.files import read_json, write_json

if TYPE_CHECKING:
    from harness.data.training_data import PackedSource

FORMAT = 2
"""Increase it when existing entries must not be used any more."""


@dataclass(frozen=True, eq=False)
class TeacherSamples:
    """A teacher's predictions at the trained positions of a source."""

    directory: Path
    tokens: NDArray[Any]
    """uint16 or uint32 [tokens, S], a memory map: tokens drawn from the teacher's distribution at a temperature; each weighs 1 / S."""
    entropy: NDArray[np.float32]
    """float32 [tokens], a memory map: entropy of that distribution, in nats."""
    drawn: NDArray[np.bool_]
    """bool [tokens], a memory map: the positions that are drawn."""

    @property
    def count(self) -> int:
        """Samples per position."""
        return int(self.tokens.shape[1])

    def __reduce__(self) -> tuple[Any, ...]:
        # A data-loading process maps the files again instead of receiving a copy.
        return open_samples, (self.directory,)


def open_samples(entry: Path) -> TeacherSamples | None:
    """The entry, or None where there is none, or one whose files a crash of the machine cut short."""
    meta = read_json(entry / "meta.json")
    if meta is None:
        return None
    try:
        # numpy refuses a file of another size than the shape's, also a longer one.
        tokens = np.memmap(entry / "samples.bin", dtype=meta["dtype"], mode="r").reshape(meta["tokens"], meta["samples"])
        entropy = np.memmap(entry / "entropy.bin", dtype=np.float32, mode="r").reshape(meta["tokens"])
        drawn = np.memmap(entry / "drawn.bin", dtype=np.bool_, mode="r").reshape(meta["tokens"])
    except (OSError, ValueError):
        return None
    return TeacherSamples(entry, tokens, entropy, drawn)


def create_samples(directory: Path, *, tokens: int, samples: int, vocabulary: int) -> None:
    """Write an entry in which nothing is drawn yet into an empty directory."""
    dtype = np.dtype(np.uint16 if vocabulary <= 1 << 16 else np.uint32)
    for name, size in (("samples", tokens * samples * dtype.itemsize), ("entropy", tokens * 4), ("drawn", tokens)):
        with (directory / f"{name}.bin").open("wb") as stream:
            stream.truncate(size)
    write_json(directory / "meta.json", {"dtype": dtype.name, "tokens": tokens, "samples": samples})


class SampleFiles:
    """Writes to an entry, in any order of positions."""

    def __init__(self, entry: TeacherSamples) -> None:
        tokens, dtype = entry.tokens, entry.tokens.dtype
        self._samples = np.memmap(entry.directory / "samples.bin", dtype=dtype, mode="r+", shape=tokens.shape)
        self._entropy = np.memmap(entry.directory / "entropy.bin", dtype=np.float32, mode="r+", shape=(len(tokens),))
        self._drawn = np.memmap(entry.directory / "drawn.bin", dtype=np.bool_, mode="r+", shape=(len(tokens),))
        self._written: list[Int64] = []
        self.row_bytes = tokens.shape[1] * dtype.itemsize
        """Bytes of one position in samples.bin."""

    def write(self, at: Int64, samples: NDArray[Any], entropy: NDArray[Any]) -> None:
        """Args: at int64[n], positions; samples int[n, S]; entropy float[n]."""
        self._samples[at], self._entropy[at] = samples, entropy
        self._written.append(at)

    def mark(self) -> None:
        """Mark what was written as drawn, after it has reached the disk: also after a crash, marked positions are whole."""
        self._samples.flush()
        self._entropy.flush()
        for at in self._written:
            self._drawn[at] = True
        self._drawn.flush()
        self._written.clear()


def fingerprint(source: PackedSource, *, teacher: str, vocabulary: int, samples: int, temperature: float, seed: int) -> str:
    """Hex digest of everything that samples depend on; `teacher` is the fingerprint of its weights, `vocabulary` how many ids they are
    drawn from."""
    recipe = [FORMAT, source.documents.fingerprint, teacher, vocabulary, samples, temperature, seed]
    digest = hashlib.sha256(json.dumps(recipe).encode())
    # In whichever rows they are: some packings leave pieces of which nothing is predicted out.
    pieces = np.flatnonzero(source.piece_targets)
    first, length = source.packing.first_tokens(source.documents.offsets, pieces), source.packing.piece_length[pieces]
    order = stable_order(first)
    digest.update(first[order].tobytes())
    digest.update(length[order].tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Windows:
    """Pieces of about the same length, padded at their ends."""

    input_ids: Int64
    """int64 [b, l], 0 in the padding."""
    predicted: NDArray[np.bool_]
    """bool [b, l]: the positions whose next token is trained; n of them are true."""
    at: Int64
    """int64 [n]: these positions among the source's tokens."""


def undrawn(source: PackedSource, rows: Int64, entry: TeacherSamples | None) -> tuple[Int64, int]:
    """The pieces in a source's `rows` (int64[r]) that have positions without samples, int64[p]; and the number of such positions."""
    pieces = source.packing.pieces_of(rows)
    first, length = source.packing.first_tokens(source.documents.offsets, pieces), source.packing.piece_length[pieces]
    at = spans(first, length - 1)
    missing = np.ones(len(at), dtype=np.bool_)
    if source.documents.trained is not None:
        missing &= source.documents.trained[at + 1]
    if entry is not None:
        missing &= ~entry.drawn[at]
    per_piece = np.diff(offsets_of(missing)[offsets_of(length - 1)])
    return pieces[per_piece > 0], int(per_piece.sum())


def windows(source: PackedSource, pieces: Int64, batch_tokens: int) -> Iterator[Windows]:
    """The pieces (int64[p]) in which something is predicted, longest first, in batches of at most `batch_tokens` positions (but at least
    one piece)."""
    documents = source.documents
    first, length = source.packing.first_tokens(documents.offsets, pieces), source.packing.piece_length[pieces]
    order = np.lexsort((first, -length))
    first, length = first[order], length[order]
    begin = 0
    while begin < len(first) and length[begin] > 1:
        longest = int(length[begin])
        some = slice(begin, begin + max(1, batch_tokens // longest))
        begin = some.stop
        at = first[some, None] + np.arange(longest)
        real = np.arange(longest) < length[some, None]
        at[~real] = 0
        predicted = np.arange(longest) < length[some, None] - 1
        if documents.trained is not None:
            predicted[predicted] = documents.trained[at[predicted] + 1]
        if predicted.any():
            yield Windows(np.where(real, documents.tokens[at], 0).astype(np.int64), predicted, at[predicted])
