from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.packing import Overflow, Packing, PackingName, pack

LENGTHS = st.lists(st.integers(0, 60), max_size=60).map(lambda values: np.array(values, dtype=np.int64))
CONTEXTS = st.integers(2, 24)
PACKINGS = st.sampled_from(["best_fit", "concat", "padded"])
PROMPTS = st.integers(0, 5)
OVERFLOWS = st.sampled_from(["split", "truncate", "drop"])


def pieces(packing: Packing) -> list[list[tuple[int, int, int]]]:
    """Rows of (document, start, length)."""
    columns = list(zip(packing.piece_document.tolist(), packing.piece_start.tolist(), packing.piece_length.tolist(), strict=True))
    return [columns[a:b] for a, b in zip(packing.row_offsets[:-1], packing.row_offsets[1:], strict=True)]


def naive_best_fit_decreasing(lengths: list[int], context_length: int) -> list[int]:
    """The textbook algorithm: fill levels of the rows."""
    rows: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [i for i, used in enumerate(rows) if used + length <= context_length]
        if fitting:
            rows[max(fitting, key=lambda i: rows[i])] += length
        else:
            rows.append(length)
    return rows


@settings(max_examples=200, deadline=None)
@given(LENGTHS, CONTEXTS, PACKINGS, OVERFLOWS, PROMPTS)
def test_rows_hold_real_tokens_once_and_never_too_many(
    lengths: np.ndarray, context_length: int, name: PackingName, overflow: Overflow, prompt: int
) -> None:
    context_length += prompt
    packing = pack(lengths, context_length, name, overflow, prompt=prompt)
    seen: Counter[tuple[int, int]] = Counter()
    for row in pieces(packing):
        assert 0 < sum(prompt + length for _, _, length in row) <= context_length
        for document, start, length in row:
            assert length > 0
            assert start + length <= lengths[document]
            seen.update((document, start + i) for i in range(length))
    assert set(seen.values()) <= {1}
    assert packing.tokens == len(seen)
    assert packing.row_tokens.tolist() == [sum(length for *_, length in row) for row in pieces(packing)]
    assert packing.row_positions.tolist() == [sum(prompt + length for *_, length in row) for row in pieces(packing)]
    assert packing.row_targets.tolist() == [sum(length - 1 for *_, length in row) for row in pieces(packing)]


@settings(max_examples=100, deadline=None)
@given(LENGTHS, CONTEXTS, st.sampled_from(["best_fit", "padded"]))
def test_splitting_keeps_every_token(lengths: np.ndarray, context_length: int, name: PackingName) -> None:
    packing = pack(lengths, context_length, name, "split")
    assert packing.tokens == lengths.sum()
    assert packing.documents_cut == (lengths > context_length).sum()


@settings(max_examples=200, deadline=None)
@given(LENGTHS, CONTEXTS, OVERFLOWS)
def test_best_fit_is_the_textbook_algorithm(lengths: np.ndarray, context_length: int, overflow: Overflow) -> None:
    packing = pack(lengths, context_length, "best_fit", overflow)
    expected = naive_best_fit_decreasing(packing.piece_length.tolist(), context_length)
    assert sorted(packing.row_tokens.tolist()) == sorted(expected)


@settings(max_examples=100, deadline=None)
@given(LENGTHS, CONTEXTS)
def test_concat_is_one_stream_without_its_tail(lengths: np.ndarray, context_length: int) -> None:
    packing = pack(lengths, context_length, "concat", "split")
    stream = [(document, i) for document, length in enumerate(lengths.tolist()) for i in range(length)]
    packed = [(document, start + i) for row in pieces(packing) for document, start, length in row for i in range(length)]
    whole = len(stream) // context_length * context_length
    assert packed == stream[: whole or len(stream)]
    assert (packing.row_tokens == context_length).all() or packing.rows == 1


@settings(max_examples=200, deadline=None)
@given(LENGTHS, CONTEXTS, st.integers(1, 5))
def test_concat_gives_every_piece_its_prompt(lengths: np.ndarray, context_length: int, prompt: int) -> None:
    """Token by token: one that finds no room in its row, with a prompt where it begins a piece, begins the next row."""
    context_length += prompt
    rows: list[list[tuple[int, int, int]]] = []
    room = 0
    for document, length in enumerate(lengths.tolist()):
        for i in range(length):
            if i == 0 and room > prompt:
                room -= prompt
                rows[-1].append((document, i, 0))
            elif i == 0 or room == 0:
                room = context_length - prompt
                rows.append([(document, i, 0)])
            first, start, size = rows[-1].pop()
            rows[-1].append((first, start, size + 1))
            room -= 1
    if len(rows) > 1 and room:
        rows.pop()
    assert pieces(pack(lengths, context_length, "concat", "split", prompt=prompt)) == rows


@pytest.mark.parametrize(
    ("name", "overflow", "rows", "cut"),
    [
        # Documents of 3, 0, 12, 5, 8 and 2 tokens in rows of 8; a piece is (document, start, length).
        ("best_fit", "split", [[(2, 0, 8)], [(4, 0, 8)], [(3, 0, 5), (0, 0, 3)], [(2, 8, 4), (5, 0, 2)]], 1),
        ("best_fit", "truncate", [[(2, 0, 8)], [(4, 0, 8)], [(3, 0, 5), (0, 0, 3)], [(5, 0, 2)]], 1),
        ("best_fit", "drop", [[(4, 0, 8)], [(3, 0, 5), (0, 0, 3)], [(5, 0, 2)]], 1),
        ("padded", "split", [[(0, 0, 3)], [(2, 0, 8)], [(2, 8, 4)], [(3, 0, 5)], [(4, 0, 8)], [(5, 0, 2)]], 1),
        ("concat", "drop", [[(0, 0, 3), (2, 0, 5)], [(2, 5, 7), (3, 0, 1)], [(3, 1, 4), (4, 0, 4)]], 4),
    ],
)
def test_golden_rows(name: PackingName, overflow: Overflow, rows: list[list[tuple[int, int, int]]], cut: int) -> None:
    packing = pack(np.array([3, 0, 12, 5, 8, 2]), 8, name, overflow)
    assert pieces(packing) == rows
    assert packing.documents_cut == cut
    assert packing.tokens_given == 30
    assert packing.tokens == sum(length for row in rows for *_, length in row)
    some = np.arange(len(rows))[::-2]
    chosen = packing.pieces_of(some)
    assert packing.piece_document[chosen].tolist() == [document for row in some for document, *_ in rows[row]]
    begins = [0, 3, 3, 15, 20, 28, 30]
    first = [begins[document] + start for row in some for document, start, _ in rows[row]]
    assert packing.first_tokens(np.array(begins), chosen).tolist() == first


@pytest.mark.parametrize("name", ["best_fit", "concat", "padded"])
def test_nothing_to_pack_makes_no_rows(name: PackingName) -> None:
    for lengths in (np.array([], dtype=np.int64), np.array([0, 0])):
        packing = pack(lengths, 8, name, "split")
        assert (packing.rows, packing.tokens) == (0, 0)


def test_a_real_corpus_packs_to_within_a_row_in_ten_thousand_of_the_optimum() -> None:
    lengths = np.random.default_rng(0).lognormal(np.log(400), 1.2, 50_000).astype(np.int64) + 1
    packing = pack(lengths, 2048, "best_fit", "split")
    assert packing.rows <= np.ceil(lengths.sum() / 2048 * 1.0001)
