"""Tokenizing in pieces: text that can be cut where its tokenizer cuts anyway, each distinct piece tokenized once.

Byte-level BPE tokenizes the matches of a regular expression one by one. The expressions known here never match across the cuts made below,
and what they match on one side does not depend on the other: a space after a printable ASCII character begins a match; so does the last
space of a run before a printable one, and an ASCII letter after a single line break. Most of a text is pieces that were seen before.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from harness.data.ragged import Int64, offsets_of, spans

MOST_PIECES = 2**18
"""Pieces that are remembered, then all are forgotten: memory stays flat over any text."""
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
EXPRESSIONS = (GPT2, _CL100K % "{1,3}", _CL100K % "")
"""GPT-2's; Llama 3's; Qwen 2's and 3's."""

BEGIN, END, WHOLE = b"\xfd", b"\xfe", b"\xff"
"""Bytes that no UTF-8 text has: around a document, and in place of one that is not cut."""

_PRINTABLE = np.zeros(256, dtype=np.bool_)
_PRINTABLE[0x21:0x7F] = True
_WHITE = np.zeros(256, dtype=np.bool_)
_WHITE[[0x20, 0x09, 0x0A, 0x0D]] = True
_LETTER = np.zeros(256, dtype=np.bool_)
_LETTER[[*range(ord("A"), ord("Z") + 1), *range(ord("a"), ord("z") + 1)]] = True


class PieceEncoder:
    """A tokenizers.Tokenizer that remembers what it has tokenized."""

    def __init__(self, backend: Any, prefix: list[int], suffix: list[int], controls: Sequence[str]) -> None:
        """Args: prefix and suffix, the ids around every document; controls, texts of control tokens: a document with one is not cut."""
        self._backend, self._prefix, self._suffix = backend, prefix, suffix
        self._controls = controls
        self._heads = sorted({control[:2] for control in controls})
        self._forget()

    def _forget(self) -> None:
        self._index = _Index({BEGIN: 0, END: 1, WHOLE: 2})
        self._ids = np.array([*self._prefix, *self._suffix], dtype=np.int64)
        self._counts = np.array([len(self._prefix), len(self._suffix), 0], dtype=np.int64)

    def encode(self, texts: Sequence[str], dtype: DTypeLike) -> tuple[NDArray[Any], Int64]:
        """Ids of all documents one after the other, and how many each has: (dtype [sum of lengths], int64[documents])."""
        if len(self._index) > MOST_PIECES:
            self._forget()
        whole = [number for number, text in enumerate(texts) if self._has_controls(text)]
        contents = [BEGIN + text.encode() + END for text in texts]
        for number in whole:
            contents[number] = WHOLE
        text = b"".join(contents)
        cuts = _cuts(np.frombuffer(text, dtype=np.uint8))
        pieces = [text[start:stop] for start, stop in pairwise(cuts.tolist())]
        entry = np.fromiter(map(self._index.__getitem__, pieces), dtype=np.int64, count=len(pieces))
        self._learn()

        begins = offsets_of(np.fromiter(map(len, contents), dtype=np.int64, count=len(contents)))
        first_piece = np.searchsorted(cuts, begins)
        alone = [np.array(self._whole(texts[number]), dtype=np.int64) for number in whole]
        entry[first_piece[whole]] = len(self._counts) + np.arange(len(whole))
        counts = np.concatenate([self._counts, np.array([len(ids) for ids in alone], dtype=np.int64)])
        sizes = counts[entry]
        ids = np.concatenate([self._ids, *alone])[spans(offsets_of(counts)[:-1][entry], sizes)]
        return ids.astype(dtype), np.diff(offsets_of(sizes)[first_piece])

    def _has_controls(self, text: str) -> bool:
        return any(head in text for head in self._heads) and any(control in text for control in self._controls)

    def _whole(self, text: str) -> list[int]:
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        suffix = self._suffix
        # An end of text that the text itself has is not doubled.
        return [*self._prefix, *ids, *(suffix if not (len(suffix) == 1 and ids[-1:] == suffix) else [])]

    def _learn(self) -> None:
        """Tokenize the pieces that were not known."""
        new, self._index.new = self._index.new, []
        if new:
            ids = [
                encoding.ids for encoding in self._backend.encode_batch_fast([piece.decode() for piece in new], add_special_tokens=False)
            ]
            self._counts = np.concatenate([self._counts, np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))])
            self._ids = np.concatenate([self._ids, np.array([token for one in ids for token in one], dtype=np.int64)])


class _Index(dict[bytes, int]):
    """The entry of every piece; unknown ones get the next, and are noted."""

    def __init__(self, entries: dict[bytes, int]) -> None:
        super().__init__(entries)
        self.new: list[bytes] = []

    def __missing__(self, piece: bytes) -> int:
        entry = self[piece] = len(self)
        self.new.append(piece)
        return entry


def _cuts(text: NDArray[np.uint8]) -> Int64:
    """Where documents (UTF-8, with their marks) may be cut, both ends included: positions of the bytes after the cuts, int64[n], sorted."""
    space, printable = text == 0x20, _PRINTABLE[text]
    cut = np.zeros(len(text) + 1, dtype=np.bool_)
    cut[1:-1] = space[1:] & printable[:-1]
    cut[1:-2] |= _WHITE[text[:-2]] & space[1:-1] & printable[2:]
    cut[2:-1] |= printable[:-2] & (text[1:-1] == 0x0A) & _LETTER[text[2:]]
    marks = text >= BEGIN[0]
    cut[:-1] |= marks
    cut[1:] |= marks
    found: Int64 = np.flatnonzero(cut)
    return found


def piece_encoder(backend: Any, eos: int | None) -> PieceEncoder | None:
    """The same tokenizer in pieces, `eos` at the end of every document; None where it cannot be known that the ids are the same."""
    settings = json.loads(backend.to_str())
    model, added = settings["model"], settings["added_tokens"]
    around = _around(settings["post_processor"])
    if model["type"] != "BPE" or model.get("dropout") or settings["normalizer"] is not None or around is None:
        return None
    if not _is_known(settings["pre_tokenizer"]) or any(token["single_word"] or not token["content"] for token in added):
        return None
    prefix, suffix = around
    if eos is not None and suffix[-1:] != [eos]:
        suffix = [*suffix, eos]
        if len(suffix) > 1 or eos not in {token["id"] for token in added}:
            return None
    return PieceEncoder(backend, prefix, suffix, [token["content"] for token in added])


def _is_known(pre_tokenizer: Any) -> bool:
    match pre_tokenizer:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:
            return True
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        }:
            return expression in EXPRESSIONS
        case _:
            return False


def _around(processor: Any) -> tuple[list[int], list[int]] | None:
    """The ids that a post-processor puts before and after a text; None where it does something else."""
    match processor:
        case None | {"type": "ByteLevel"} | {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}]}:
            return [], []
        case _:
            return None
