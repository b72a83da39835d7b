"""What the parts of a schedule must agree on."""

from __future__ import annotations

from collections.abc import Iterator

from harness.config.checks.trainer import planned_steps
from harness.config.length import Length, parse_length
from harness.config.schema import Config


def planned_schedule_problems(config: Config) -> Iterator[str]:
    warmup = parse_length("schedule.warmup", config.schedule.warmup)
    steps = planned_steps(config.trainer)
    if steps is not None:
        yield from schedule_problems(config, warmup, steps)


def schedule_problems(config: Config, warmup: Length, steps: int) -> Iterator[str]:
    """What is wrong with a schedule over `steps` steps."""
    length = warmup.steps(total_steps=steps, batch_tokens=config.trainer.batch_tokens)
    if length > steps:
        yield f"schedule.warmup={config.schedule.warmup}: the warm-up of {length} steps exceeds the run's {steps} steps"
    elif config.schedule.name == "wsd" and length + round(config.schedule.decay_fraction * steps) > steps:
        yield (
            f"schedule.decay_fraction={config.schedule.decay_fraction}: with the warm-up of {length} steps (schedule.warmup="
            f"{config.schedule.warmup}) it exceeds the run's {steps} steps"
        )
