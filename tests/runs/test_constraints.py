"""Bounds on metrics."""

from __future__ import annotations

import math

import pytest

from harness.runs.constraints import broken, broken_limit, holds, margins


def test_margins_say_how_far_a_limit_is_broken() -> None:
    constraints = {"forgetting": {"max": 0.3}, "accuracy": {"min": 0.5, "max": 1.0}}
    found = margins(constraints, {"forgetting": 0.5, "accuracy": 0.75})
    assert found == {"forgetting <= 0.3": pytest.approx(0.2), "accuracy <= 1.0": -0.25, "accuracy >= 0.5": -0.25}
    with pytest.raises(KeyError):
        margins(constraints, {"forgetting": 0.5})


@pytest.mark.parametrize(
    ("value", "broken"), [(0.1, "min 0.2"), (0.2, None), (0.3, None), (0.4, "max 0.3"), (-math.inf, "min 0.2"), (math.inf, "max 0.3")]
)
def test_a_limit_itself_holds(value: float, broken: str | None) -> None:
    bound = {"min": 0.2, "max": 0.3}
    assert broken_limit(bound, value) == broken
    assert holds(bound, value) == (broken is None)


def test_what_is_no_number_meets_no_bound_and_every_number_meets_none() -> None:
    assert not holds({"max": 0.3}, math.nan)
    assert holds({}, 7.0)


def test_what_is_broken_in_words() -> None:
    bounds = {"a": {"max": 0.25}, "b": {"min": 1.0, "max": 2.0}, "absent": {"max": 0.0}}
    assert broken(bounds, {"a": 0.2826, "b": 0.5}) == ["a 0.2826 > 0.25", "b 0.5 < 1"]
    assert broken(bounds, {"a": 0.25, "b": 1.5}) == []
