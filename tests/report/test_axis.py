from __future__ import annotations

from typing import Any

import pytest

from harness.report.axis import linear_ticks, log_ticks, parameter_axis
from harness.report.figure_style import axis_limits
from harness.report.text import ABSENT

LOG = {"low": 1e-4, "high": 1e-1, "log": True}


def test_a_rate_lies_at_its_logarithm() -> None:
    axis = parameter_axis(LOG, [1e-4, 1e-2])
    assert axis.positions == pytest.approx([-4, -2])
    assert list(axis.ticks.values()) == ["1e-04", "3e-04", "1e-03", "3e-03", "1e-02"]
    assert axis.range == pytest.approx((-4, -2))


@pytest.mark.parametrize(("low", "high"), [(1e-3, 1e-3), (9.99999999999999e-5, 1e-3), (2.1e-4, 2.9e-4), (0.5, 700.0)])
def test_log_ticks_enclose_the_values(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert ticks[0] <= low <= high <= ticks[-1]
    assert len(ticks) <= 8


@pytest.mark.parametrize(("low", "high", "ticks"), [(0, 0.5, [0, 0.1, 0.2, 0.3, 0.4, 0.5]), (3, 3, [3]), (1, 9, [0, 2, 4, 6, 8, 10])])
def test_linear_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert linear_ticks(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("choices", "shown"),
    [
        (["linear", "1-sqrt"], ["—", "linear", "1-sqrt"]),
        ([3e-3, 1e-4, 1e-3], ["—", "3e-03", "1e-04", "1e-03"]),
        ([0.9, None], ["—", "0.9", "null"]),
        ([0.0030001, 0.0030002, 0.01], ["—", "3.0001e-03", "3.0002e-03", "0.01"]),
        ([[0.9, 0.95], [0.9, 0.9501]], ["—", "[0.9, 0.95]", "[0.9, 0.9501]"]),
    ],
)
def test_ordered_choices_are_told_apart_in_the_order_of_the_sweep(choices: list[Any], shown: list[str]) -> None:
    axis = parameter_axis({"choices": choices, "ordered": True}, [*choices[::-1], ABSENT])
    assert list(axis.ticks.values()) == shown
    assert axis.positions == [*range(len(choices), 0, -1), 0]


def test_a_chosen_null_is_not_what_is_not_active() -> None:
    assert list(parameter_axis({"choices": [None, 0.9]}, [0.9, ABSENT, None]).ticks.values()) == ["—", "0.9", "null"]


def test_whole_numbers_are_written_as_such() -> None:
    assert list(parameter_axis({"low": 300, "high": 1500, "log": True}, [300, 1500]).ticks.values()) == ["300", "1000", "3000"]
    assert list(parameter_axis({"low": 1, "high": 5_000_000}, [1, 5_000_000]).ticks.values())[-1] == "5000000"


def test_the_ticks_of_a_narrow_range_differ() -> None:
    assert list(parameter_axis({"low": 0.1001, "high": 0.1003}, [0.1001, 0.1003]).ticks.values())[:2] == ["0.1001", "0.10015"]


def test_choices_are_in_order_and_what_is_not_active_lies_apart() -> None:
    axis = parameter_axis({"choices": [16, 128, 32]}, [128, ABSENT, 16])
    assert list(axis.ticks.values()) == ["—", "16", "128"]
    assert axis.positions == [2, 0, 1]
    axis = parameter_axis({"low": 0.0, "high": 0.5}, [0.1, ABSENT, 0.5])
    assert axis.positions[1] == min(axis.ticks)
    assert axis.ticks[axis.positions[1]] == "—"


def test_one_run_far_off_does_not_flatten_the_others() -> None:
    losses = [2.1, 2.2, 2.15, 2.3, 2.25, 11.0]
    low, high = axis_limits(losses)
    assert low < 2.1
    assert 2.3 < high < 4
    low, high = axis_limits([-loss for loss in losses], maximize=True)
    assert high > -2.1
    assert -4 < low < -2.3


def test_an_axis_of_equal_values_has_a_width() -> None:
    low, high = axis_limits([2.0, 2.0])
    assert low < 2 < high
    assert parameter_axis({"low": 0, "high": 1}, [0.5]).range == (0.0, 1.0)
