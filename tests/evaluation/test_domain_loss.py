from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config.errors import InputError
from harness.data.labels import IGNORED
from harness.data.ragged import offsets_of
from harness.data.token_cache import TokenizedDocuments
from harness.evaluation.domain_loss import DomainLossSet, select


def documents(lengths: list[int]) -> TokenizedDocuments:
    """Token ids 1, 2, 3, … over all documents; four bytes a token; hashes in the order of the documents."""
    offsets = offsets_of(np.array(lengths, dtype=np.int64))
    tokens = np.arange(1, offsets[-1] + 1, dtype=np.uint16)
    return TokenizedDocuments(Path("none"), tokens, offsets, np.arange(len(lengths), dtype=np.uint64), np.array(lengths) * 4)


def make(lengths: list[int], *, max_tokens: int | None = None, context_length: int = 4) -> DomainLossSet:
    return select(DomainLossSet, "docs", documents(lengths), np.arange(len(lengths)), max_tokens=max_tokens, context_length=context_length)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(2, 30), min_size=1, max_size=12), st.integers(1, 9), st.integers(1, 64))
def test_every_token_but_a_documents_first_is_predicted_once(lengths: list[int], context_length: int, batch_tokens: int) -> None:
    chosen = make(lengths, context_length=context_length)
    predicted: Counter[int] = Counter()
    for input_ids, labels in chosen.batches(batch_tokens):
        assert input_ids.shape == labels.shape
        assert input_ids.dtype == labels.dtype == np.int64
        assert input_ids.size <= batch_tokens or len(input_ids) == 1
        assert input_ids.shape[1] <= context_length
        real = labels != IGNORED
        assert (labels[real] == input_ids[real] + 1).all()  # ids count up within these documents
        assert (input_ids[~real] == 0).all()
        assert (real == (np.cumsum(~real, axis=1) == 0)).all()  # padding is at the end
        predicted.update(labels[real].tolist())
    firsts = {int(first) + 1 for first in offsets_of(np.array(lengths))[:-1]}
    assert predicted == Counter(set(range(1, sum(lengths) + 1)) - firsts)
    assert chosen.predicted_tokens == predicted.total()


def test_windows_of_a_document_follow_each_other() -> None:
    (ids, labels), (rest_ids, rest_labels) = make([8], context_length=4).batches(4)
    assert (ids.tolist(), labels.tolist()) == ([[1, 2, 3, 4]], [[2, 3, 4, 5]])
    assert (rest_ids.tolist(), rest_labels.tolist()) == ([[5, 6, 7]], [[6, 7, 8]])
    ((ids, labels),) = list(make([3, 2], context_length=4).batches(64))
    assert (ids.tolist(), labels.tolist()) == ([[1, 2], [4, 0]], [[2, 3], [5, IGNORED]])


def test_whole_documents_up_to_max_tokens() -> None:
    chosen = make([5, 6, 7], max_tokens=12)
    assert (chosen.documents, chosen.bytes, chosen.tokens.tolist()) == (2, 44, list(range(1, 12)))


def test_a_document_that_alone_is_too_long_is_truncated() -> None:
    chosen = make([10, 20], max_tokens=6)
    assert (chosen.documents, chosen.bytes, chosen.predicted_tokens) == (1, 24, 5)


def test_the_fingerprint_names_what_is_predicted() -> None:
    one = make([5, 6])
    assert one.fingerprint == make([5, 6]).fingerprint
    assert len({one.fingerprint, make([5, 6], context_length=5).fingerprint, make([6, 5]).fingerprint, make([5, 7]).fingerprint}) == 4
    assert replace(one, name="other").fingerprint == one.fingerprint


@pytest.mark.parametrize(
    ("lengths", "max_tokens", "message"),
    [([1, 1], None, r"data\.validation\.docs=2: documents, none of which"), ([5], 1, r"data\.validation\.docs\.max_tokens=1: at least 2")],
)
def test_nothing_to_predict_is_bad_input(lengths: list[int], max_tokens: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(lengths, max_tokens=max_tokens)
