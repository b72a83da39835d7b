"""A fixed evaluation set of one domain: the same tokens in the same windows for every trial, however it packs its training data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.config.errors import wrong_value
from harness.data.ragged import Int64, offsets_of, spans
from harness.data.split import Hashes, select_validation
from harness.data.token_cache import TokenizedDocuments

IGNORED = -100
"""The label of a position that is not to be predicted: what torch's cross entropy ignores."""


@dataclass(frozen=True, eq=False)
class ValidationSet:
    """Whole documents, cut into windows in which every token but a document's first is predicted exactly once."""

    domain: str
    tokens: NDArray[Any]
    """Token ids [tokens] of the documents, one after the other."""
    lengths: Int64
    """int64[documents]: tokens of each."""
    hashes: Hashes
    """uint64[documents]."""
    bytes: int
    """UTF-8 bytes of the documents' text, of conversations of their trained text: what bits per byte are per byte of."""
    context_length: int
    trained: NDArray[np.bool_] | None = None
    """bool[tokens]: which tokens are scored; None: all."""
    by_position: bool = False
    """Whether the loss is asked for by position, too."""
    cache_entry: str | None = None
    """The entry of the cache that holds the documents it was drawn from."""

    @property
    def documents(self) -> int:
        return len(self.lengths)

    @property
    def predicted_tokens(self) -> int:
        """Tokens that are scored: all, or those that data.loss_on trains; a document's first is not predicted."""
        if self.trained is None:
            return len(self.tokens) - self.documents
        return int(np.count_nonzero(self.trained)) - int(np.count_nonzero(self.trained[offsets_of(self.lengths)[:-1]]))

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of what is predicted, from which context, and of what is made of it."""
        digest = hashlib.sha256(f"{self.context_length}{' by position' if self.by_position else ''}".encode())
        digest.update(self.lengths.tobytes())
        digest.update(self.tokens.astype(np.int64).tobytes())
        if self.trained is not None:
            digest.update(self.trained.tobytes())
        return digest.hexdigest()

    @cached_property
    def _windows(self) -> tuple[Int64, Int64]:
        """First token and number of predictions of each window, longest window first: two int64[windows]."""
        predicted = self.lengths - 1
        counts = -(-predicted // self.context_length)
        within = spans(0, counts) * self.context_length
        starts = np.repeat(offsets_of(self.lengths)[:-1], counts) + within
        sizes = np.minimum(np.repeat(predicted, counts) - within, self.context_length)
        order = np.argsort(-sizes, kind="stable")
        return starts[order], sizes[order]

    def batches(self, batch_tokens: int) -> Iterator[tuple[Int64, Int64]]:
        """All windows, in batches of about the same length and at most `batch_tokens` positions (but at least one window).

        Yields (input_ids int64[b, l], labels int64[b, l]), labels shifted already: labels[i, t] follows input_ids[i, t]. Where a window
        is shorter than l, input ids are 0 and labels -100 at its end: under causal attention neither affects the rest. Labels are -100
        too where a token is not scored.
        """
        starts, sizes = self._windows
        first = 0
        while first < len(starts):
            longest = int(sizes[first])
            some = slice(first, first + max(1, batch_tokens // longest))
            at = starts[some, None] + np.arange(longest)
            real = np.arange(longest) < sizes[some, None]
            at[~real] = 0
            # int64 before -100 goes in: token ids are unsigned.
            inputs, labels = self.tokens[at].astype(np.int64), self.tokens[at + 1].astype(np.int64)
            if self.trained is not None:
                labels[~self.trained[at + 1]] = IGNORED
            inputs[~real], labels[~real] = 0, IGNORED
            yield inputs, labels
            first = some.stop


def validation_set(
    domain: str,
    documents: TokenizedDocuments,
    candidates: Int64,
    *,
    max_tokens: int | None,
    context_length: int,
    by_position: bool = False,
) -> ValidationSet:
    """The evaluation set drawn from the candidates (int64[n], indices of documents); see `select_validation`.

    If even the first document is longer than `max_tokens`, it is truncated, and its bytes are counted in proportion.
    Raises InputError when nothing can be predicted: no candidate has two tokens, `max_tokens` is 1, or the loss is on none of the tokens.
    """
    key = f"data.validation.{domain}"
    if max_tokens is not None and max_tokens < 2:
        raise wrong_value(f"{key}.max_tokens", max_tokens, "at least 2, for one token to be predicted from another")
    lengths = documents.lengths[candidates]
    chosen = select_validation(documents.hashes[candidates], lengths, max_tokens)
    if len(chosen) == 0:
        raise wrong_value(key, len(candidates), "documents, none of which has two tokens to predict one from the other")
    kept = lengths[chosen] if max_tokens is None else np.minimum(lengths[chosen], max_tokens)
    index = candidates[chosen]
    sizes = documents.bytes[index] * (kept / lengths[chosen])
    tokens = spans(documents.offsets[index], kept)
    chosen_set = ValidationSet(
        domain=domain,
        tokens=np.asarray(documents.tokens[tokens]),
        lengths=kept,
        hashes=documents.hashes[index],
        bytes=round(float(sizes.sum())) if documents.trained is None else max(1, round(float(sizes.sum()))),
        context_length=context_length,
        trained=None if documents.trained is None else np.asarray(documents.trained[tokens]),
        by_position=by_position,
        cache_entry=documents.fingerprint,
    )
    if chosen_set.predicted_tokens == 0:
        raise wrong_value(key, len(index), "documents, on none of whose tokens the loss is (data.loss_on, .max_tokens)")
    return chosen_set
