"""Golden values by arithmetic, and what holds for every schedule."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import cos, pi, sqrt
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.errors import InputError
from harness.config.schema import Config, DecayShape, OptimConfig, ScheduleConfig, ScheduleName, TrainerConfig
from harness.schedule.learning_rate import Schedule, learning_rate, resolve_schedule

PEAK = 8.0


def rates(schedule: Schedule) -> list[float]:
    return [learning_rate(schedule, step) for step in range(schedule.total_steps)]


def schedule(name: ScheduleName, **values: object) -> Schedule:
    return replace(Schedule(name=name, peak=PEAK, total_steps=8, warmup_steps=0), **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (schedule("constant"), [8, 8, 8, 8, 8, 8, 8, 8]),
        (schedule("constant", warmup_steps=4), [2, 4, 6, 8, 8, 8, 8, 8]),
        # From the peak, by an eighth a step: the step after the last would be at zero.
        (schedule("linear"), [8, 7, 6, 5, 4, 3, 2, 1]),
        (schedule("linear", warmup_steps=4), [2, 4, 6, 8, 8, 6, 4, 2]),
        (schedule("linear", floor=0.5), [8, 7.5, 7, 6.5, 6, 5.5, 5, 4.5]),
        (schedule("cosine", total_steps=4), [8, 4 * (1 + sqrt(0.5)), 4, 4 * (1 - sqrt(0.5))]),
        (schedule("cosine", total_steps=6, warmup_steps=2, floor=0.25), [4, 8, 8, 5 + 3 * sqrt(0.5), 5, 5 - 3 * sqrt(0.5)]),
        (schedule("wsd", decay_steps=4, decay_shape="linear"), [8, 8, 8, 8, 8, 6, 4, 2]),
        (schedule("wsd", warmup_steps=2, decay_steps=4, decay_shape="linear", floor=0.5), [4, 8, 8, 8, 8, 7, 6, 5]),
        (schedule("wsd", decay_steps=4, decay_shape="cosine"), [8, 8, 8, 8, 8, 4 * (1 + cos(pi / 4)), 4, 4 * (1 - cos(pi / 4))]),
        (schedule("wsd", decay_steps=4, decay_shape="1-sqrt"), [8, 8, 8, 8, 8, 4, 8 * (1 - sqrt(0.5)), 8 * (1 - sqrt(0.75))]),
        (schedule("wsd", decay_steps=4, decay_shape="1-sqrt", floor=0.5), [8, 8, 8, 8, 8, 6, 4 + 4 * (1 - sqrt(0.5)), 8 - 4 * sqrt(0.75)]),
        # The whole run is warm-up and decay; and no decay at all, where the rounding of a short run leaves none.
        (schedule("wsd", warmup_steps=4, decay_steps=4, decay_shape="linear"), [2, 4, 6, 8, 8, 6, 4, 2]),
        (schedule("wsd", total_steps=2, decay_steps=0), [8, 8]),
        # The rate falls as 1/sqrt(step number) from the last step of the warm-up on.
        (schedule("inverse_sqrt", warmup_steps=2), [4, 8, *(8 * sqrt(2 / n) for n in range(3, 9))]),
        (schedule("inverse_sqrt", warmup_steps=0, total_steps=4), [8, 8 * sqrt(1 / 2), 8 * sqrt(1 / 3), 4]),
        (schedule("inverse_sqrt", total_steps=9, floor=0.5), [8, 8 * sqrt(1 / 2), 8 * sqrt(1 / 3), 4, 4, 4, 4, 4, 4]),
        # Warm up, cool down from 8 to 4 as a cosine, stay, decay from there.
        (
            schedule("infinite", warmup_steps=1, cooldown_steps=2, constant_share=0.5, decay_steps=2, decay_shape="linear"),
            [8, 8, 6, 4, 4, 4, 4, 2],
        ),
        (
            schedule("infinite", cooldown_steps=2, constant_share=0.5, decay_steps=4, decay_shape="linear", floor=0.25),
            [8, 6, 4, 4, 4, 3.5, 3, 2.5],
        ),
        # Re-warming from the rate that earlier training ended at.
        (schedule("constant", warmup_steps=4, initial=4.0), [5, 6, 7, 8, 8, 8, 8, 8]),
        (schedule("linear", warmup_steps=2, initial=16.0, total_steps=4), [12, 8, 8, 4]),
        # A warm-up as long as the run.
        (schedule("cosine", warmup_steps=8), [1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_golden_values(given: Schedule, expected: list[float]) -> None:
    assert rates(given) == pytest.approx(expected, rel=1e-12)


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    total = draw(st.integers(1, 60))
    warmup = draw(st.integers(0, total))
    name = draw(st.sampled_from(get_args(ScheduleName)))
    constant_share = draw(st.floats(0.01, 1.0)) if name == "infinite" else 1.0
    return Schedule(
        name=name,
        peak=draw(st.floats(1e-6, 1.0)),
        constant_share=constant_share,
        cooldown_steps=draw(st.integers(0, total - warmup)) if name == "infinite" else 0,
        total_steps=total,
        warmup_steps=warmup,
        decay_steps=draw(st.integers(0, total - warmup)),
        decay_shape=draw(st.sampled_from(get_args(DecayShape))),
        floor=draw(st.floats(0.0, constant_share)),
    )


ROUNDING = 1e-12


@given(schedules())
def test_between_floor_and_peak(any_schedule: Schedule) -> None:
    values = rates(any_schedule)
    assert max(values) <= any_schedule.peak * (1 + ROUNDING)
    assert min(values[any_schedule.warmup_steps :], default=any_schedule.peak) >= any_schedule.peak * any_schedule.floor * (1 - ROUNDING)
    assert min(values) > 0 or any_schedule.floor == 0


@given(schedules())
def test_up_to_the_peak_and_never_up_again(any_schedule: Schedule) -> None:
    values, warmup = rates(any_schedule), any_schedule.warmup_steps
    rise, rest = values[:warmup], values[warmup:]
    assert rise == sorted(rise)
    if warmup:
        assert rise[-1] == any_schedule.peak
    assert all(later <= earlier * (1 + ROUNDING) for earlier, later in pairwise(rest))


@given(schedules())
def test_wsd_is_the_constant_schedule_until_its_decay_begins(any_schedule: Schedule) -> None:
    """Runs can only share a prefix when this holds to the last bit."""
    wsd, constant = replace(any_schedule, name="wsd", constant_share=1.0), replace(any_schedule, name="constant")
    start = wsd.total_steps - wsd.decay_steps
    assert rates(wsd)[:start] == rates(constant)[:start]


@given(schedules(), st.integers(1, 60))
def test_annealed_schedules_of_any_length_are_one_trunk_until_the_first_decay_begins(any_schedule: Schedule, longer: int) -> None:
    short = replace(any_schedule, name="infinite")
    long = replace(short, total_steps=short.total_steps + longer)
    assert rates(long)[: short.decay_start] == rates(short)[: short.decay_start]


@given(schedules(), st.integers(1, 60))
def test_a_schedule_without_end_begins_the_same_however_long_the_run(any_schedule: Schedule, longer: int) -> None:
    for name in ("constant", "inverse_sqrt"):
        short = replace(any_schedule, name=name)  # type: ignore[arg-type]
        assert rates(replace(short, total_steps=short.total_steps + longer))[: short.total_steps] == rates(short)


def resolved(total_steps: int, **values: object) -> Schedule:
    config = Config(
        optim=OptimConfig(lr=PEAK),
        schedule=ScheduleConfig(**values),  # type: ignore[arg-type]
        trainer=TrainerConfig(max_steps=total_steps, batch_tokens=1000),
    )
    return resolve_schedule(config, total_steps)


@pytest.mark.parametrize(("warmup", "steps"), [(0, 0), (0.1, 20), ("10%", 20), (30, 30), ("30 steps", 30), ("5e3 tokens", 5), (1.0, 200)])
def test_lengths_become_steps(warmup: int | float | str, steps: int) -> None:
    found = resolved(200, name="wsd" if steps < 200 else "linear", warmup=warmup, decay_fraction=0.25)
    assert (found.warmup_steps, found.peak, found.total_steps) == (steps, PEAK, 200)
    assert found.decay_steps == (50 if found.name == "wsd" else 0)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"name": "linear", "warmup": 11}, "schedule.warmup=11"),
        ({"name": "wsd", "warmup": 0.6, "decay_fraction": 0.5}, "schedule.decay_fraction=0.5"),
    ],
)
def test_what_does_not_fit_into_the_run_is_refused(values: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=named):
        resolved(10, **values)
