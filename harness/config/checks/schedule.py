"""What the parts of a schedule must agree on."""

from __future__ import annotations

from collections.abc import Iterator

from harness.config.checks.trainer import planned_steps
from harness.config.length import parse_length
from harness.config.schema import Config


def planned_schedule_problems(config: Config) -> Iterator[str]:
    schedule = config.schedule
    for key in ("warmup", "cooldown"):
        length = parse_length(f"schedule.{key}", getattr(schedule, key))
        if length.unit == "tokens" and config.trainer.batch_pairs is not None:
            yield f"schedule.{key}={getattr(schedule, key)}: not in tokens with trainer.batch_pairs; valid: a fraction of the run, or steps"
    if schedule.name in ("wsd", "infinite"):
        highest = config.optim.lr * (schedule.constant_share if schedule.name == "infinite" else 1.0)
        if config.optim.lr * schedule.floor > highest:
            yield f"schedule.floor={schedule.floor}: above what it decays from, schedule.constant_share={schedule.constant_share}"
    steps = planned_steps(config.trainer)
    if steps is not None:
        yield from schedule_problems(config, steps)


def parts_in_steps(config: Config, steps: int) -> tuple[int, int, int]:
    """Warm-up, cool-down and decay of a run of `steps` steps, in steps; 0 for a part that its schedule has not."""
    schedule, batch_tokens = config.schedule, config.trainer.batch_tokens
    warmup = parse_length("schedule.warmup", schedule.warmup).steps(total_steps=steps, batch_tokens=batch_tokens)
    cooldown = parse_length("schedule.cooldown", schedule.cooldown).steps(total_steps=steps, batch_tokens=batch_tokens)
    decay = round(schedule.decay_fraction * steps)
    match schedule.name:
        case "infinite":
            return warmup, cooldown, decay
        case "wsd":
            return warmup, 0, decay
        case _:
            return warmup, 0, 0


def schedule_problems(config: Config, steps: int) -> Iterator[str]:
    """What is wrong with a schedule over `steps` steps."""
    schedule = config.schedule
    warmup, cooldown, decay = parts_in_steps(config, steps)
    if warmup > steps:
        yield f"schedule.warmup={schedule.warmup}: the warm-up of {warmup} steps exceeds the run's {steps} steps"
    elif warmup + cooldown > steps:
        yield (
            f"schedule.cooldown={schedule.cooldown}: with the warm-up of {warmup} steps (schedule.warmup={schedule.warmup}) it exceeds the "
            f"run's {steps} steps"
        )
    elif warmup + cooldown + decay > steps:
        before = f"the warm-up of {warmup} steps (schedule.warmup={schedule.warmup})"
        if cooldown:
            before += f" and the cool-down of {cooldown} (schedule.cooldown={schedule.cooldown})"
        yield f"schedule.decay_fraction={schedule.decay_fraction}: with {before} it exceeds the run's {steps} steps"
