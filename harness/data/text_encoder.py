"""Text to token ids, with the tokenizer's special tokens, without truncation or padding; and the mapping's fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray
from tokenizers import Tokenizer

from harness.data.piece_cache import piece_encoder
from harness.data.ragged import Int64
from harness.data.text_files import Document


class TokenizerLike(Protocol):
    """What is needed of a fast tokenizer of transformers."""

    @property
    def backend_tokenizer(self) -> Any:
        """The tokenizers.Tokenizer inside."""

    @property
    def eos_token_id(self) -> int | None:
        """The end-of-text token, or None."""


@dataclass(frozen=True, eq=False)
class EncodedBatch:
    """Documents as tokens."""

    ids: NDArray[Any]
    """uint16 or uint32 [sum of lengths], one document after the other."""
    lengths: Int64
    """int64[documents]."""
    texts: Sequence[str]
    """What was tokenized."""
    trained: NDArray[np.bool_] | None = None
    """bool[sum of lengths]: whether the loss is on a token; None: on all."""
    trained_bytes: Sequence[int] | None = None
    """UTF-8 bytes of each document's trained text, control tokens not counted; None: of all its text."""


class TextEncoder:
    """A tokenizer as it is used for training text."""

    def __init__(self, tokenizer: TokenizerLike, *, append_eos: bool) -> None:
        """With `append_eos`, every document ends in the end-of-text token, where the tokenizer has one."""
        self._backend = without_truncation(tokenizer.backend_tokenizer)
        self._eos = tokenizer.eos_token_id if append_eos else None
        self._pieces = piece_encoder(self._backend, self._eos)

    def fingerprint(self) -> str:
        """Hex digest of everything that decides which ids a text becomes."""
        return hashlib.sha256(f"{self._eos}\0{self._backend.to_str()}".encode()).hexdigest()

    def dtype(self) -> DTypeLike:
        """The smallest unsigned type that holds every id: uint16 or uint32. By the largest id: a vocabulary may have gaps."""
        return id_dtype(self._backend, self._eos or 0)

    def encode(self, documents: Sequence[Document], dtype: DTypeLike) -> EncodedBatch:
        """All documents, one after the other, their ids as `dtype`."""
        texts = [document.text for document in documents]
        if self._pieces is not None:
            flat, lengths = self._pieces.encode(texts, dtype)
            return EncodedBatch(flat, lengths, texts)
        ids = [encoding.ids for encoding in self._backend.encode_batch_fast(texts, add_special_tokens=True)]
        if self._eos is not None:
            for one in ids:
                if not one or one[-1] != self._eos:  # some tokenizers append it themselves
                    one.append(self._eos)
        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        flat = np.fromiter(chain.from_iterable(ids), dtype=dtype, count=int(lengths.sum()))
        return EncodedBatch(flat, lengths, texts)


def without_truncation(backend: Any) -> Any:
    """A tokenizers.Tokenizer that neither truncates nor pads: this one, or a copy."""
    if backend.truncation is None and backend.padding is None:
        return backend
    copy = Tokenizer.from_str(backend.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def id_dtype(backend: Any, largest: int = 0) -> DTypeLike:
    """The smallest unsigned type that holds every id of the vocabulary, and `largest`: uint16 or uint32."""
    largest = max(largest, *backend.get_vocab(with_added_tokens=True).values())
    return np.uint16 if largest < 2**16 else np.uint32
