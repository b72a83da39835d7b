"""How long a trial should need, by those that have ended."""

from __future__ import annotations

import pytest

from harness.search.trial_seconds import TrialSeconds

FULL = 100_000


def known(*ended: tuple[int, float]) -> TrialSeconds:
    seconds = TrialSeconds()
    for tokens, took in ended:
        seconds.add(tokens, took)
    return seconds


def test_nothing_is_known_before_the_first_has_ended() -> None:
    assert known().needed(FULL) is None


@pytest.mark.parametrize("tokens", [FULL // 2, FULL, 3 * FULL])
def test_where_all_had_one_length_the_slowest_counts_in_proportion(tokens: int) -> None:
    assert known((FULL, 200.0), (FULL, 220.0), (FULL, 180.0)).needed(tokens) == pytest.approx(220.0 * tokens / FULL)


def test_a_start_up_is_not_taken_for_a_slow_pace() -> None:
    # 20 s to start and to evaluate, 200 s for all tokens.
    seconds = known((FULL // 20, 30.0), (FULL, 220.0))
    assert seconds.needed(FULL) == pytest.approx(220.0)
    assert seconds.needed(FULL // 20) == pytest.approx(30.0)
    assert seconds.needed(FULL // 2) == pytest.approx(120.0)


def test_none_that_has_ended_needed_more() -> None:
    ended = [(FULL // 20, 31.0), (FULL // 20, 12.0), (FULL // 4, 60.0), (FULL // 2, 140.0), (FULL, 220.0), (FULL, 150.0)]
    seconds = known(*ended)
    for tokens, took in ended:
        bound = seconds.needed(tokens)
        assert bound is not None
        assert bound >= took - 1e-9
    bound = seconds.needed(FULL)
    assert bound is not None
    assert bound < 1.2 * 220.0, "a scatter of a tenth costs no more than that"


def test_a_short_run_that_was_held_up_says_nothing_of_the_pace() -> None:
    seconds = known((FULL // 20, 300.0), (FULL, 220.0))
    assert seconds.needed(FULL) == pytest.approx(300.0)
    assert seconds.needed(2 * FULL) == pytest.approx(600.0)


def test_longer_runs_than_any_so_far_count_in_proportion_to_the_longest() -> None:
    assert known((FULL // 20, 30.0), (FULL // 2, 120.0)).needed(FULL) == pytest.approx(240.0)


def test_a_trial_of_unknown_length_is_taken_for_the_longest() -> None:
    assert known((FULL // 20, 30.0), (FULL, 220.0)).needed(0) == pytest.approx(220.0)


def test_what_is_kept_does_not_grow_with_the_trials() -> None:
    seconds = TrialSeconds()
    for number in range(1, 20_000):
        seconds.add(number, 1.0 + number / 100)
    assert len(seconds.slowest) < 150
    assert seconds.needed(19_999) == pytest.approx(1.0 + 19_999 / 100, rel=0.02)
