"""Text to token ids, with the tokenizer's own special tokens and nothing cut or padded; and the identity of that mapping."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray
from tokenizers import Tokenizer

from harness.data.ragged import Int64


class TokenizerLike(Protocol):
    """What is needed of a fast tokenizer of transformers."""

    @property
    def backend_tokenizer(self) -> Any:
        """The tokenizers.Tokenizer inside."""

    @property
    def eos_token_id(self) -> int | None:
        """The end-of-text token, or None."""


class Encoder:
    """A tokenizer as it is used for training text."""

    def __init__(self, tokenizer: TokenizerLike, *, append_eos: bool) -> None:
        """With `append_eos`, every document ends in the end-of-text token, where the tokenizer has one."""
        backend = tokenizer.backend_tokenizer
        if backend.truncation is not None or backend.padding is not None:
            # Of a copy: whoever passed the tokenizer may want both.
            backend = Tokenizer.from_str(backend.to_str())
            backend.no_truncation()
            backend.no_padding()
        self._backend = backend
        self._eos = tokenizer.eos_token_id if append_eos else None

    def fingerprint(self) -> str:
        """Hex digest of everything that decides which ids a text becomes."""
        return hashlib.sha256(f"{self._eos}\0{self._backend.to_str()}".encode()).hexdigest()

    def dtype(self) -> DTypeLike:
        """The smallest unsigned type that holds every id: uint16 or uint32. By the largest id: a vocabulary may have gaps."""
        largest = max(max(self._backend.get_vocab(with_added_tokens=True).values()), self._eos or 0)
        return np.uint16 if largest < 2**16 else np.uint32

    def encode(self, texts: Sequence[str], dtype: DTypeLike) -> tuple[NDArray[Any], Int64]:
        """The ids of all texts, one after the other, as dtype[sum of lengths]; and the length of each, int64[n]."""
        ids = [encoding.ids for encoding in self._backend.encode_batch_fast(texts, add_special_tokens=True)]
        if self._eos is not None:
            for one in ids:
                if not one or one[-1] != self._eos:  # some tokenizers append it themselves
                    one.append(self._eos)
        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        return np.fromiter(chain.from_iterable(ids), dtype=dtype, count=int(lengths.sum())), lengths
