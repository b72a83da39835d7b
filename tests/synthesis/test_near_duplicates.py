"""Near duplicates: the similarity that is stated, whatever the buckets propose."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config.synth_schema import DedupConfig
from harness.synthesis.deduplicate import deduplicate
from harness.synthesis.near_duplicates import NearDuplicate, jaccard_of, near_duplicates, shingles_of, signatures
from harness.synthesis.words import run_hashes, words_of
from tests.synthesis.made import made_row

WORDS = [f"w{index}" for index in range(2000)]


def exact(a: str, b: str, ngram: int) -> float:
    """Jaccard similarity of sets of shingles of words, by the words themselves."""

    def shingles(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        length = min(ngram, len(words))
        return {tuple(words[start : start + length]) for start in range(len(words) - length + 1)} if words else set()

    mine, other = shingles(a), shingles(b)
    return len(mine & other) / len(mine | other) if mine | other else 1.0


def document(seed: int, words: int = 60) -> list[str]:
    return random.Random(seed).choices(WORDS, k=words)


def changed(words: list[str], places: int, seed: int) -> list[str]:
    """With other words at the end."""
    return words[: len(words) - places] + document(seed, places)


def test_words_are_lower_case_without_punctuation() -> None:
    assert words_of("Don’t STOP, ﬁve_6! Straße") == ["don", "t", "stop", "five_6", "strasse"]
    assert words_of("हिन्दी में") == ["हिन्दी", "में"]  # vowel signs belong to their word
    assert words_of("我是人 ok ไป") == ["我", "是", "人", "ok", "ไ", "ป"]
    assert words_of(" \n-- ") == []


def test_runs_of_words_have_equal_hashes_where_they_are_equal() -> None:
    first, second = run_hashes(["a", "b", "c", "d", "e"], 3), run_hashes(["x", "b", "c", "d"], 3)
    assert first.dtype == np.uint64
    assert len(first) == 3
    assert first[1] == second[1]
    assert len({*first.tolist(), *second.tolist()}) == 4
    assert run_hashes(["a", "b"], 2)[0] != run_hashes(["b", "a"], 2)[0]
    assert len(run_hashes(["a", "b"], 3)) == 0


def test_hashes_are_those_of_their_definition() -> None:
    """They are the same in every process and on every machine: the bytes of data sets depend on them."""
    size, root = 1 << 64, 0x9E3779B97F4A7C15
    hashes = [int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little") for word in ("the", "cat", "sat")]
    mixed = sum(one * root**power for power, one in enumerate(hashes, start=1)) % size
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % size
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % size
    assert run_hashes(["the", "cat", "sat"], 3).tolist() == [mixed ^ (mixed >> 31)] == [11093923406376325634]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=12).map(" ".join), min_size=2, max_size=2), st.integers(1, 5))
def test_similarity_is_that_of_the_sets_of_words(texts: list[str], ngram: int) -> None:
    sets = [frozenset(shingles_of(text, ngram).tolist()) for text in texts]
    assert jaccard_of(*sets) == exact(*texts, ngram)


def test_signatures_estimate_the_similarity() -> None:
    texts = [" ".join(changed(document(seed, 100), places, seed + 1)) for seed in range(20) for places in (0, 20, 50)]
    sets = [shingles_of(text, 5) for text in texts]
    found = signatures(sets)
    assert (found.dtype, found.shape) == (np.uint32, (60, 112))
    errors, expected = [], []
    for start in range(0, 60, 3):
        for other in (start + 1, start + 2):
            similarity = exact(texts[start], texts[other], 5)
            errors.append(float((found[start] == found[other]).mean()) - similarity)
            expected.append(similarity * (1 - similarity) / 112)
    # 40 estimates, each the mean of 112 coins: four standard errors of their mean and of their mean square.
    assert abs(np.mean(errors)) < 4 * np.sqrt(np.mean(expected) / 40)
    assert np.mean(np.square(errors)) < np.mean(expected) * (1 + 4 * np.sqrt(2 / 40))


def test_signatures_do_not_depend_on_what_else_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = [shingles_of(" ".join(document(seed, 10 * (seed % 4))), 5) for seed in range(12)]
    together = signatures(sets)
    monkeypatch.setattr("harness.synthesis.near_duplicates.CHUNK_SHINGLES", 40)
    np.testing.assert_array_equal(signatures(sets), together)
    np.testing.assert_array_equal(np.concatenate([signatures([one]) for one in sets]), together)


def test_a_pair_in_one_bucket_goes_only_at_the_stated_similarity() -> None:
    """Texts of one template share buckets at any bound; 46 of 56 shingles are the same: 46 / 66."""
    text = document(0)
    texts = [" ".join(text), " ".join(changed(text, 10, 1))]
    similarity = 46 / 66
    assert exact(*texts, 5) == similarity
    assert near_duplicates(texts, similarity, 5) == [NearDuplicate(1, 0, similarity)]
    assert near_duplicates(texts, similarity + 1e-9, 5) == []


def test_the_first_stays_and_a_chain_is_not_one_cluster() -> None:
    a = document(0)
    b = changed(a, 4, 1)
    c = changed(a, 4, 2)[4:] + document(3, 4)
    texts = [" ".join(words) for words in (a, a, b, c)]
    near = [exact(texts[0], texts[2], 5), exact(texts[2], texts[3], 5), exact(texts[0], texts[3], 5)]
    assert near == [52 / 60, 48 / 64, 48 / 64]
    assert [(one.index, one.of) for one in near_duplicates(texts, 0.8, 5)] == [(1, 0), (2, 0)]
    assert [(one.index, one.of) for one in near_duplicates(texts[::-1], 0.8, 5)] == [(2, 1), (3, 1)]


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([0.6, 0.8, 0.95]))
def test_no_two_that_share_a_bucket_stay_and_each_that_goes_has_one_that_stays(chance: random.Random, jaccard: float) -> None:
    base = [document(seed) for seed in range(3)]
    texts = [" ".join(changed(chance.choice(base), chance.choice([0, 0, 3, 6, 20]), chance.randrange(100))) for _ in range(30)]
    found = near_duplicates(texts, jaccard, 5)
    gone = {one.index for one in found}
    for one in found:
        assert one.of < one.index
        assert one.of not in gone
        assert one.jaccard == exact(texts[one.of], texts[one.index], 5) >= jaccard
    stays = [text for index, text in enumerate(texts) if index not in gone]
    assert len(set(stays)) == len(stays)  # equal texts always share all buckets
    assert near_duplicates(stays, jaccard, 5) == []


def test_short_and_empty_texts() -> None:
    assert near_duplicates(["yes", "Yes!", "no", "", " ", "no way"], 1.0, 5) == [NearDuplicate(1, 0, 1.0), NearDuplicate(4, 3, 1.0)]
    assert near_duplicates([], 0.5, 5) == []


def test_ten_thousand_equal_texts_take_no_square_of_time() -> None:
    found = near_duplicates(["the same few words in every single row"] * 10_000, 0.9, 5)
    assert len(found) == 9_999
    assert {one.of for one in found} == {0}


def test_rows_that_go_say_which_one_stays() -> None:
    rows = [
        made_row("one two three four five six", draw=0),
        made_row("One, two; three four five six.", draw=1),
        made_row("else", draw=2),
    ]
    kept, rejected = deduplicate(rows, DedupConfig(jaccard=0.9))
    assert kept == [rows[0], rows[2]]
    assert [(one.row, one.rule, one.value) for one in rejected] == [(rows[1], "dedup.jaccard", {"of": "g0", "jaccard": 1.0})]
    assert deduplicate(rows, DedupConfig()) == (rows, [])
    kept, _ = deduplicate(rows, DedupConfig(jaccard=0.9, field="questions.question"))
    assert kept == rows[:1]
