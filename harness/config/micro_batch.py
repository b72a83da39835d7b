"""A smaller micro-batch for the same batch, for another attempt after an out-of-memory error."""

from __future__ import annotations

from dataclasses import replace

from harness.config.checks.trainer import ranks, trainer_problems
from harness.config.schema import Config


def with_smaller_micro_batch(config: Config) -> Config | None:
    """The same run with half the rows in a forward pass, and twice as many passes a step: its global batch, its data and its schedule are
    the same, and so are its losses and gradients but for the order of sums. (Of an odd number: its largest divisor below half.)

    None where there is no smaller one: one row already, or more micro-batches than a step that warms up has rows; and where the rows of a
    batch follow from its pairs, rounded to whole micro-batches.
    """
    trainer = config.trainer
    if trainer.batch_pairs is not None:
        return None
    rows = trainer.batch_tokens // config.data.context_length
    size = trainer.micro_batch_size or rows // ranks(trainer)
    smaller = next((divisor for divisor in range(size // 2, 0, -1) if size % divisor == 0), None)
    if smaller is None:
        return None
    changed = replace(config, trainer=replace(trainer, micro_batch_size=smaller))
    return None if list(trainer_problems(changed.trainer, config.data.context_length)) else changed
