"""The plan of a run: everything that depends on the step, as tables known before the first one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.config.errors import InputError
from harness.config.schema import Config
from harness.schedule.learning_rate import Schedule, resolve_schedule

if TYPE_CHECKING:
    from harness.data.training_data import TrainingData


@dataclass(frozen=True)
class Plan:
    """Steps, batches and rates of a run."""

    steps: int
    rows_per_step: int
    """Rows of one optimizer step, over all micro-batches."""
    micro_batch_size: int
    """Rows of one forward pass."""
    schedule: Schedule
    tokens: np.ndarray
    """int64 [steps]: tokens trained after each step, padding not counted."""
    targets: np.ndarray
    """int64 [steps]: predicted tokens of each step, the weight of its loss."""

    @property
    def accumulation(self) -> int:
        """Micro-batches of a step."""
        return self.rows_per_step // self.micro_batch_size

    def tokens_after(self, steps: int) -> int:
        """Tokens trained after `steps` steps."""
        return int(self.tokens[steps - 1]) if steps else 0


def build_plan(config: Config, data: TrainingData) -> Plan:
    """Plan a run over `data`. Raises InputError when not a single step fits, or the schedule does not."""
    rows_per_step = config.trainer.batch_tokens // config.data.context_length
    max_steps, max_tokens = config.trainer.max_steps, config.trainer.max_tokens
    if max_tokens is not None:
        steps, tokens = data.steps_for(max_tokens, rows_per_step)
        steps = min(steps, max_steps or steps)
        tokens = tokens[:steps]
    else:
        assert max_steps is not None, "checked: one of the two is given"
        steps, tokens = max_steps, data.tokens_after(rows_per_step, max_steps)
    targets = data.targets_of(rows_per_step, steps)
    if not targets.all():
        problem = "has no token to predict: its documents have one token each, or are conversations of which none is trained"
        raise InputError(f"data.sources: step {int(np.argmin(targets))} {problem}")
    return Plan(
        steps=steps,
        rows_per_step=rows_per_step,
        micro_batch_size=config.trainer.micro_batch_size or rows_per_step,
        schedule=resolve_schedule(config, steps),
        tokens=tokens,
        targets=targets,
    )
