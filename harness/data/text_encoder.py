"""Text to token ids, with the tokenizer's special tokens, without truncation or padding; and the mapping's fingerprint."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray
from tokenizers import Tokenizer

from harness.data.piece_cache import piece_encoder
from harness.data.ragged import Int64
from harness.data.text_files import Document

CONTROL_LITERAL = re.compile(r"<[|｜][^|｜<>{}\s'\"]+[|｜]>")
"""What is written like a control token: <|im_end|>."""


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
    """What was tokenized, or what else tells documents apart: of a pair's answers their prompt."""
    with_control_tokens: int = 0
    """How many documents have a control token typed in their text."""
    trained: NDArray[np.bool_] | None = None
    """bool[sum of lengths]: whether the loss is on a token; None: on all."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Pairs of answers that were left out since they say nothing, by why."""
    labels: Sequence[bool] | None = None
    """Of answers with labels, whether they are good; None of other documents."""
    trained_bytes: Sequence[int] | None = None
    """UTF-8 bytes of each document's trained text, control tokens not counted; None: of all its text."""


class TextEncoder:
    """A tokenizer as it is used for training text."""

    def __init__(self, tokenizer: TokenizerLike, *, append_eos: bool, split_special_tokens: bool = True) -> None:
        """append_eos: every document ends in the end-of-text token, where the tokenizer has one. split_special_tokens: control tokens that
        stand in a text become plain tokens."""
        backend = without_truncation(tokenizer.backend_tokenizer)
        self._split = split_special_tokens
        self._backend = _splitting(backend) if split_special_tokens else backend
        self._controls = control_tokens(json.loads(backend.to_str())["added_tokens"])
        self._heads = sorted({control[:2] for control in self._controls})
        self._eos = tokenizer.eos_token_id if append_eos else None
        self._bos = _first_added(self._backend)
        self._pieces = piece_encoder(self._backend, self._eos)

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of everything that decides which ids a text becomes."""
        how = "split\0" if self._split else ""
        return hashlib.sha256(f"{how}{self._eos}\0{self._backend.to_str()}".encode()).hexdigest()

    def dtype(self) -> DTypeLike:
        """The smallest unsigned type that holds every id: uint16 or uint32. By the largest id: a vocabulary may have gaps."""
        return id_dtype(self._backend, self._eos or 0)

    def encode(self, documents: Sequence[Document], dtype: DTypeLike) -> EncodedBatch:
        """All documents, one after the other, their ids as `dtype`."""
        texts = [document.text for document in documents]
        typed = sum(map(self._has_controls, texts))
        if self._pieces is not None:
            flat, lengths = self._pieces.encode(texts, dtype)
            return EncodedBatch(flat, lengths, texts, typed)
        ids = [encoding.ids for encoding in self._backend.encode_batch_fast(texts, add_special_tokens=True)]
        for one in ids:
            if self._bos is not None and one[:2] == [self._bos] * 2:  # the text has it already
                del one[0]
        if self._eos is not None:
            for one in ids:
                if not one or one[-1] != self._eos:  # some tokenizers append it themselves
                    one.append(self._eos)
        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        flat = np.fromiter(chain.from_iterable(ids), dtype=dtype, count=int(lengths.sum()))
        return EncodedBatch(flat, lengths, texts, typed)

    def _has_controls(self, text: str) -> bool:
        return any(head in text for head in self._heads) and any(control in text for control in self._controls)

    def encode_continuations(self, texts: Sequence[tuple[str, str]]) -> list[tuple[Int64, NDArray[np.bool_]]]:
        """Each (text, what follows it) as one document: ids int64[n], and which of them hold any of what follows, or end it: bool[n]."""
        encoded = []
        for encoding, (before, _) in zip(
            self._backend.encode_batch([a + b for a, b in texts], add_special_tokens=True), texts, strict=True
        ):
            ids, follows = list(encoding.ids), [end > len(before) for _, end in encoding.offsets]
            if self._bos is not None and ids[:2] == [self._bos] * 2:
                del ids[0], follows[0]
            # An end of text that the tokenizer puts there stands for no character.
            ends_itself = self._eos is not None and ids[-1:] == [self._eos]
            if ends_itself:
                follows[-1] = True
            elif self._eos is not None:
                ids.append(self._eos)
                follows.append(True)
            encoded.append((np.array(ids, dtype=np.int64), np.array(follows, dtype=np.bool_)))
        return encoded


def control_tokens(added: Sequence[Mapping[str, Any]]) -> list[str]:
    """The texts of control tokens among a tokenizer's `added_tokens`: special ones, and all that look like one, <|…|>."""
    return [token["content"] for token in added if is_control(token)]


def is_control(token: Mapping[str, Any]) -> bool:
    return bool(token["special"] or CONTROL_LITERAL.fullmatch(token["content"]))


def _splitting(backend: Any) -> Any:
    """A copy of a tokenizers.Tokenizer that makes plain tokens of control tokens in a text."""
    settings = json.loads(backend.to_str())
    for token in settings["added_tokens"]:
        token["special"] = is_control(token)
    copy = Tokenizer.from_str(json.dumps(settings))
    copy.encode_special_tokens = True
    return copy


def _first_added(backend: Any) -> int | None:
    """The id that the tokenizer puts before every text; None where it puts none."""
    whole, plain = (backend.encode("a", add_special_tokens=added).ids for added in (True, False))
    return int(whole[0]) if len(whole) > len(plain) and whole[1 : 1 + len(plain)] == plain else None


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
