"""Tokens drawn from a teacher's distribution at the positions of a source, on disk beside its tokens.

    <cache>/teacher/<fingerprint>/     complete, or not there at all, see cache_entry.py
        samples.bin   uint16 or uint32 [tokens, S]
        entropy.bin   float32 [tokens]
        meta.json     dtype and counts

Row t belongs to token t of the source's tokens.bin: what the teacher says of the token after it, having read the piece that token t is
in up to there. The teacher reads each piece by itself, as the student sees it in a packed row; so samples belong to a set of pieces,
whatever rows these are packed into. Where nothing is predicted (a piece's last token, the untrained tokens of a conversation) rows are
zero, and take no place on file systems with sparse files.
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

from harness.data.ragged import Int64, stable_order
from harness.runs.files import read_json, write_json

if TYPE_CHECKING:
    from harness.data.training_data import PackedSource

FORMAT = 1
"""Raise when entries written so far must not be used any more."""


@dataclass(frozen=True, eq=False)
class TeacherSamples:
    """What a teacher says of every trained position of a source."""

    directory: Path
    tokens: NDArray[Any]
    """uint16 or uint32 [tokens, S], a memory map: tokens drawn from the teacher's distribution at a temperature; each weighs 1 / S."""
    entropy: NDArray[np.float32]
    """float32 [tokens], a memory map: of that distribution, in nats."""

    @property
    def count(self) -> int:
        """Samples of each position."""
        return int(self.tokens.shape[1])

    def __reduce__(self) -> tuple[Any, ...]:
        # A data-loading process maps the files again, rather than receive a copy of them.
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
    except (OSError, ValueError):
        return None
    return TeacherSamples(entry, tokens, entropy)


class SampleFiles:
    """The files of an entry while they are written, in any order of positions."""

    def __init__(self, directory: Path, *, tokens: int, samples: int, vocabulary: int) -> None:
        self._directory = directory
        dtype = np.dtype(np.uint16 if vocabulary <= 1 << 16 else np.uint32)
        self._meta = {"dtype": dtype.name, "tokens": tokens, "samples": samples}
        self.row_bytes = samples * dtype.itemsize
        """Bytes of one position in samples.bin."""
        self._samples = np.memmap(directory / "samples.bin", dtype=dtype, mode="w+", shape=(tokens, samples))
        self._entropy = np.memmap(directory / "entropy.bin", dtype=np.float32, mode="w+", shape=(tokens,))

    def write(self, at: Int64, samples: NDArray[Any], entropy: NDArray[Any]) -> None:
        """Args: at int64[n], positions; samples int[n, S]; entropy float[n]."""
        self._samples[at], self._entropy[at] = samples, entropy

    def close(self) -> None:
        """Makes the entry complete."""
        self._samples.flush()
        self._entropy.flush()
        write_json(self._directory / "meta.json", self._meta)


def fingerprint(source: PackedSource, *, teacher: str, samples: int, temperature: float, seed: int) -> str:
    """Hex digest of all that samples depend on; `teacher` is the fingerprint of its weights."""
    digest = hashlib.sha256(json.dumps([FORMAT, source.documents.fingerprint, teacher, samples, temperature, seed]).encode())
    first, length = _pieces(source)
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
    """bool [b, l]: after which tokens one is predicted that the loss is on; n of them are true."""
    at: Int64
    """int64 [n]: where these tokens are among the source's."""


def windows(source: PackedSource, batch_tokens: int) -> Iterator[Windows]:
    """All pieces of a source in which something is predicted, longest first, at most `batch_tokens` positions (but one piece) at a time."""
    documents = source.documents
    first, length = _pieces(source)
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


def _pieces(source: PackedSource) -> tuple[Int64, Int64]:
    """The first token of each piece, among all of the source's, and its tokens: two int64[pieces]."""
    packing = source.packing
    return source.documents.offsets[packing.piece_document] + packing.piece_start, packing.piece_length
