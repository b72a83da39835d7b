"""Learning-rate schedules as pure functions of the step.

A schedule is resolved once, when the number of steps is known; from then on `learning_rate(schedule, step)` has no state to save or
restore.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import assert_never

from harness.config.checks.schedule import parts_in_steps, schedule_problems
from harness.config.errors import InputError
from harness.config.schema import Config, DecayShape, ScheduleName


@dataclass(frozen=True)
class Schedule:
    """A learning-rate schedule over the steps 0 … total_steps - 1."""

    name: ScheduleName
    peak: float
    """Learning rate after the warm-up."""
    total_steps: int
    warmup_steps: int
    initial: float = 0.0
    """The rate that the warm-up rises from."""
    cooldown_steps: int = 0
    """infinite only: the length of the way from the peak to the constant rate."""
    constant_share: float = 1.0
    """infinite only: the constant rate, as a share of the peak."""
    decay_steps: int = 0
    """wsd and infinite only: the length of the decay at the end."""
    decay_shape: DecayShape = "1-sqrt"
    """wsd and infinite only."""
    floor: float = 0.0
    """The rate at the end, as a share of the peak."""

    @property
    def decay_start(self) -> int:
        """The first step of the decay at the end; total_steps where there is none."""
        return self.total_steps - self.decay_steps


def resolve_schedule(config: Config, total_steps: int) -> Schedule:
    """The schedule of a run of `total_steps` steps, its lengths in steps.

    Raises InputError when warm-up, cool-down and decay do not fit into the run.
    """
    problems = list(schedule_problems(config, total_steps))
    if problems:
        raise InputError("\n".join(problems))
    given = config.schedule
    warmup, cooldown, decay = parts_in_steps(config, total_steps)
    return Schedule(
        name=given.name,
        peak=config.optim.lr,
        total_steps=total_steps,
        warmup_steps=warmup,
        initial=given.initial_lr,
        cooldown_steps=cooldown,
        constant_share=given.constant_share if given.name == "infinite" else 1.0,
        decay_steps=decay,
        decay_shape=given.decay_shape,
        floor=given.floor,
    )


def learning_rate(schedule: Schedule, step: int) -> float:
    """The learning rate of the update number `step` (0-based).

    The warm-up rises linearly and reaches the peak with its last update; a decay starts from the peak, and would reach the floor with
    the update after the last.
    """
    if step < schedule.warmup_steps:
        return schedule.initial + (schedule.peak - schedule.initial) * ((step + 1) / schedule.warmup_steps)
    match schedule.name:
        case "constant":
            return schedule.peak
        case "linear" | "cosine":
            span = schedule.total_steps - schedule.warmup_steps
            return _decayed(schedule, schedule.name, (step - schedule.warmup_steps) / span)
        case "wsd" | "infinite":
            constant = schedule.peak * schedule.constant_share
            if step >= schedule.decay_start:
                return _decayed(schedule, schedule.decay_shape, (step - schedule.decay_start) / schedule.decay_steps, start=constant)
            if step < schedule.warmup_steps + schedule.cooldown_steps:
                cooled = 0.5 * (1.0 + math.cos(math.pi * (step - schedule.warmup_steps) / schedule.cooldown_steps))
                return constant + (schedule.peak - constant) * cooled
            return constant
        case "inverse_sqrt":
            anchor = max(schedule.warmup_steps, 1)
            return schedule.peak * max(schedule.floor, math.sqrt(anchor / (step + 1)))
        case _:
            assert_never(schedule.name)


def _decayed(schedule: Schedule, shape: DecayShape, progress: float, start: float | None = None) -> float:
    """The rate at `progress` (0 to 1) of a decay from `start`, or the peak, to the floor."""
    match shape:
        case "linear":
            remaining = 1.0 - progress
        case "cosine":
            remaining = 0.5 * (1.0 + math.cos(math.pi * progress))
        case "1-sqrt":
            remaining = 1.0 - math.sqrt(progress)
        case _:
            assert_never(shape)
    if start is None or start == schedule.peak:
        return schedule.peak * (schedule.floor + (1.0 - schedule.floor) * remaining)
    end = schedule.peak * schedule.floor
    return end + (start - end) * remaining
