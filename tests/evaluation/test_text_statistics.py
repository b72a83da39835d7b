"""Golden values; those of self-BLEU are nltk's (smoothing method1, epsilon .1)."""

from __future__ import annotations

import pytest

from harness.evaluation.text_statistics import adjusted_distinct, all_at, distinct, pass_at, repetition, self_bleu, zlib_ratio

TEXTS = ["the cat sat on the mat", "the cat sat on the rug", "a dog ran in the park", "the cat sat on the mat"]
WORDS = [text.split() for text in TEXTS]


@pytest.mark.parametrize(("k", "chance"), [(1, 0.3), (2, 0.533333), (5, 0.916667), (8, 1.0)])
def test_pass_at_k_has_no_bias(k: int, chance: float) -> None:
    assert pass_at(k, right=3, draws=10) == pytest.approx(chance, abs=5e-7)


@pytest.mark.parametrize(("k", "chance"), [(1, 0.7), (2, 0.466667), (3, 0.291667)])
def test_all_at_k_has_no_bias(k: int, chance: float) -> None:
    assert all_at(k, right=7, draws=10) == pytest.approx(chance, abs=5e-7)


@pytest.mark.parametrize(("n", "share"), [(1, 0.458333), (2, 0.55), (3, 0.5625), (4, 0.583333)])
def test_distinct(n: int, share: float) -> None:
    assert distinct(WORDS, n) == pytest.approx(share, abs=5e-7)


def test_distinct_is_adjusted_to_what_chance_would_have() -> None:
    assert adjusted_distinct(WORDS, vocabulary=50) == pytest.approx(0.572589, abs=5e-7)


def test_self_bleu_is_nltks() -> None:
    found = self_bleu(WORDS)
    assert found == pytest.approx([1, 0.759836, 0.040825, 1], abs=5e-7)
    assert sum(found) / len(found) == pytest.approx(0.700165, abs=5e-7)


def test_self_bleu_is_less_of_a_text_shorter_than_the_others() -> None:
    """All precisions are 1, and the other text of the closest length has 5 tokens: exp(1 - 5/4)."""
    assert self_bleu([[1, 2, 3, 4], [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5]])[0] == pytest.approx(0.778801, abs=5e-7)


def test_an_ngram_counts_as_often_as_one_other_text_has_it() -> None:
    """Precisions of [a a a] against [a b] and [a a c]: 2/3 of single tokens, 1/2 of pairs, .1/1 of triples, .1/1 of none."""
    found = self_bleu([["a", "a", "a"], ["a", "b"], ["a", "a", "c"]])[0]
    assert found == pytest.approx((2 / 3 * 1 / 2 * 0.1 * 0.1) ** 0.25)


def test_repetition() -> None:
    assert repetition(["a", "b", "a", "b", "a", "b"], 2) == pytest.approx(0.6)


def test_zlib() -> None:
    assert zlib_ratio(TEXTS) == pytest.approx(90 / 56)


def test_where_nothing_is_written_everything_is_finite() -> None:
    assert [distinct([[], []], 2), adjusted_distinct([[]], 50), repetition([1], 4), zlib_ratio([""])] == [0, 0, 0, 0]
    assert self_bleu([[], [1, 2], [1, 2]]) == [0, pytest.approx(0.1**0.5), pytest.approx(0.1**0.5)]
    assert self_bleu([[1, 2, 3]]) == [0]
