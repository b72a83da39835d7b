from __future__ import annotations

import re

import numpy as np
import pytest

from harness.config.errors import InputError
from harness.data.split import held_out, refuse_leaks, select_validation

HASHES = np.random.default_rng(0).integers(0, 2**64, 10_000, dtype=np.uint64, endpoint=False)


def test_about_the_share_is_held_out_and_smaller_shares_within_larger_ones() -> None:
    for share in (0.01, 0.1, 0.5, 0.99):
        assert abs(held_out(HASHES, share).mean() - share) < 0.02
    assert (held_out(HASHES, 0.1) <= held_out(HASHES, 0.2)).all()
    assert not held_out(HASHES, 0.0).any()


def test_the_side_of_a_text_does_not_depend_on_the_others() -> None:
    some = np.concatenate([HASHES[50:90], HASHES[50:60]])
    assert (held_out(some, 0.3) == np.concatenate([held_out(HASHES, 0.3)[50:90], held_out(HASHES, 0.3)[50:60]])).all()


@pytest.mark.parametrize(
    ("lengths", "max_tokens", "chosen"),
    [
        ([4, 3, 5, 2], None, [3, 2, 1, 0]),  # by hash, smallest first
        ([4, 3, 5, 2], 14, [3, 2, 1, 0]),
        ([4, 3, 5, 2], 13, [3, 2, 1]),
        ([4, 3, 5, 2], 9, [3, 2]),  # no gap is filled with a later, shorter one
        ([4, 3, 5, 20], 9, [2, 1]),  # one that never fits is passed over
        ([4, 3, 5, 1], 9, [2, 1]),  # and so is one with nothing to predict
        ([14, 13, 15, 12], 9, [3]),  # none fits: the first one, to be truncated
        ([1, 0, 1, 1], 9, []),
    ],
)
def test_selection(lengths: list[int], max_tokens: int | None, chosen: list[int]) -> None:
    hashes = np.array([40, 30, 20, 10], dtype=np.uint64)
    assert select_validation(hashes, np.array(lengths), max_tokens).tolist() == chosen


def test_a_text_is_selected_once() -> None:
    hashes = np.array([7, 5, 7, 5], dtype=np.uint64)
    assert select_validation(hashes, np.array([4, 3, 4, 3]), None).tolist() == [1, 0]


def test_leaks_are_refused_with_their_number() -> None:
    refuse_leaks(HASHES[:50], HASHES[50:], source="docs", key="data.validation.general")
    message = "data.sources.docs: 3 of its documents are also in data.validation.general, word for word"
    with pytest.raises(InputError, match=re.escape(message)):
        refuse_leaks(HASHES[:53], HASHES[50:], source="docs", key="data.validation.general")


def test_other_documents_are_taken_block_by_block_and_in_turn() -> None:
    hashes, lengths = np.arange(7, dtype=np.uint64), np.array([4, 3, 9, 2, 5, 1, 4])
    blocks = [select_validation(hashes, lengths, 8, block=block, key="data.validation.docs").tolist() for block in range(5)]
    # The third is longer than 8, the sixth has nothing to predict.
    assert blocks == [[0, 1], [3, 4], [6], [3, 4], [6]]
    assert blocks[0] == select_validation(hashes, lengths, 8).tolist()
    for most in (None, 100):
        with pytest.raises(
            InputError, match=rf"data\.validation\.docs\.block=1: the first data\.validation\.docs\.max_tokens={most} are all"
        ):
            select_validation(hashes, lengths, most, block=1, key="data.validation.docs")
