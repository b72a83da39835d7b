"""Learning-rate schedules as pure functions of the step.

A schedule is resolved once, when the number of steps is known; from then on `learning_rate(schedule, step)` is all there is: no state
to save, to restore or to get out of step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import assert_never

from harness.config.checks.schedule import schedule_problems
from harness.config.errors import InputError
from harness.config.length import parse_length
from harness.config.schema import Config, DecayShape, ScheduleName


@dataclass(frozen=True)
class Schedule:
    """A learning-rate schedule over the steps 0 … total_steps - 1."""

    name: ScheduleName
    peak: float
    """Learning rate after the warm-up."""
    total_steps: int
    warmup_steps: int
    decay_steps: int = 0
    """wsd only: the length of the decay at the end."""
    decay_shape: DecayShape = "1-sqrt"
    """wsd only."""
    floor: float = 0.0
    """The rate at the end, as a share of the peak."""


def resolve_schedule(config: Config, total_steps: int) -> Schedule:
    """The schedule of a run of `total_steps` steps, its lengths in steps.

    Raises InputError when warm-up and decay do not fit into the run.
    """
    warmup = parse_length("schedule.warmup", config.schedule.warmup)
    problems = list(schedule_problems(config, warmup, total_steps))
    if problems:
        raise InputError("\n".join(problems))
    return Schedule(
        name=config.schedule.name,
        peak=config.optim.lr,
        total_steps=total_steps,
        warmup_steps=warmup.steps(total_steps=total_steps, batch_tokens=config.trainer.batch_tokens),
        decay_steps=round(config.schedule.decay_fraction * total_steps) if config.schedule.name == "wsd" else 0,
        decay_shape=config.schedule.decay_shape,
        floor=config.schedule.floor,
    )


def learning_rate(schedule: Schedule, step: int) -> float:
    """The learning rate of the update number `step` (0-based).

    The warm-up rises linearly and reaches the peak with its last update; a decay starts from the peak, and would reach the floor with
    the update after the last.
    """
    if step < schedule.warmup_steps:
        return schedule.peak * ((step + 1) / schedule.warmup_steps)
    match schedule.name:
        case "constant":
            return schedule.peak
        case "linear" | "cosine":
            span = schedule.total_steps - schedule.warmup_steps
            return _decayed(schedule, schedule.name, (step - schedule.warmup_steps) / span)
        case "wsd":
            start = schedule.total_steps - schedule.decay_steps
            return schedule.peak if step < start else _decayed(schedule, schedule.decay_shape, (step - start) / schedule.decay_steps)
        case "inverse_sqrt":
            anchor = max(schedule.warmup_steps, 1)
            return schedule.peak * max(schedule.floor, math.sqrt(anchor / (step + 1)))
        case _:
            assert_never(schedule.name)


def _decayed(schedule: Schedule, shape: DecayShape, progress: float) -> float:
    """The rate at `progress` (0 to 1) of a decay from the peak to the floor."""
    match shape:
        case "linear":
            remaining = 1.0 - progress
        case "cosine":
            remaining = 0.5 * (1.0 + math.cos(math.pi * progress))
        case "1-sqrt":
            remaining = 1.0 - math.sqrt(progress)
        case _:
            assert_never(shape)
    return schedule.peak * (schedule.floor + (1.0 - schedule.floor) * remaining)
