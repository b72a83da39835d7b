from __future__ import annotations

import pytest

from harness.report.axis import linear_ticks, log_ticks, parameter_axis
from harness.report.figure_style import axis_limits

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


def test_choices_are_in_order_and_what_is_not_active_lies_apart() -> None:
    axis = parameter_axis({"choices": [16, 128, 32]}, [128, None, 16])
    assert list(axis.ticks.values()) == ["—", "16", "128"]
    assert axis.positions == [2, 0, 1]
    axis = parameter_axis({"low": 0.0, "high": 0.5}, [0.1, None, 0.5])
    assert axis.positions[1] == min(axis.ticks)
    assert axis.ticks[axis.positions[1]] == "—"


def test_one_diverged_run_does_not_flatten_the_others() -> None:
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
