"""Split text for training and validation by its hash, so that a text is never on both sides."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from harness.config.errors import InputError, wrong_value
from harness.data.ragged import Int64

Hashes = NDArray[np.uint64]


def held_out(hashes: Hashes, share: float) -> NDArray[np.bool_]:
    """Which documents are held out for validation, about `share` (between 0 and 1) of them: bool[n].

    Depends on the text alone (its hash, uint64[n]): the same text falls on the same side wherever and however often it occurs.
    """
    return hashes < np.uint64(int(share * 2**64))


def select_validation(hashes: Hashes, lengths: Int64, max_tokens: int | None, *, block: int = 0, key: str = "") -> Int64:
    """The documents to evaluate on: whole ones in the order of their hashes, of at most `max_tokens` tokens together.

    A text that occurs twice counts once; documents of fewer than two tokens (nothing to predict) and those longer than `max_tokens` are
    passed over. If that leaves none, the first document with two tokens stands alone, to be truncated by the caller.

    block: the documents after those of so many earlier blocks of this size; where there are fewer, the blocks behind the first take turns.
    Args: hashes uint64[n], lengths int64[n]. Returns indices int64[k]; none only when no document has two tokens.
    Raises InputError, naming `key`, where there is no block behind the first.
    """
    _, order = np.unique(hashes, return_index=True)
    order = order[lengths[order] >= 2]
    whole = order if max_tokens is None else order[lengths[order] <= max_tokens]
    if len(whole) == 0:
        whole = order[:1]
    found = list(_blocks(whole, lengths, max_tokens)) if block else []
    if block and len(found) < 2:
        problem = f"the first {key}.max_tokens={max_tokens} are all that there are; valid: 0, fewer max_tokens, or more data"
        raise wrong_value(f"{key}.block", block, problem)
    return found[1 + (block - 1) % (len(found) - 1)] if block else next(_blocks(whole, lengths, max_tokens), whole)


def _blocks(documents: Int64, lengths: Int64, max_tokens: int | None) -> Iterator[Int64]:
    """The documents (indices int64[k]) in order, as many at a time as have at most `max_tokens` together, but at least one."""
    while len(documents):
        count = len(documents) if max_tokens is None else max(1, int(np.searchsorted(np.cumsum(lengths[documents]), max_tokens, "right")))
        yield documents[:count]
        documents = documents[count:]


def refuse_leaks(training: Hashes, evaluated: Hashes, *, source: str, key: str) -> None:
    """Raise InputError if a text to evaluate on is also trained on.

    Args: hashes of either side's documents, uint64; key: of the evaluation set.
    """
    shared = np.isin(training, evaluated)
    if shared.any():
        raise InputError(
            f"data.sources.{source}: {np.count_nonzero(shared)} of its documents are also in {key}, word for word; "
            f"take them out of one of the two, or hold documents out with {key}.source={source} and .share"
        )
