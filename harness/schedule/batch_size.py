"""The batch size as a pure function of the step: it may grow at the start of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.config.checks.trainer import micro_batches, ranks, token_bound
from harness.config.errors import InputError
from harness.config.length import parse_length
from harness.config.schema import Config


@dataclass(frozen=True)
class BatchSize:
    """Rows of every step."""

    ramp: tuple[int, ...]
    """Rows of the first steps, until the batch is full."""
    full: int
    """Rows of every step after these."""

    def rows_of(self, step: int) -> int:
        """Rows of a step (0-based)."""
        return self.ramp[step] if step < len(self.ramp) else self.full

    def rows_before(self, steps: int) -> NDArray[np.int64]:
        """Rows in all steps before each of the first `steps` steps, and before the one after them: int64[steps + 1]."""
        before = np.zeros(steps + 1, dtype=np.int64)
        per_step = np.full(steps, self.full, dtype=np.int64)
        per_step[: len(self.ramp)] = self.ramp[:steps]
        np.cumsum(per_step, out=before[1:])
        return before


def resolve_batch_size(config: Config, *, examples_a_row: float | None = None) -> BatchSize:
    """The rows of each step. With a warm-up they grow linearly with the rows trained, in steps of one row a micro-batch and rank.

    examples_a_row: how many pairs of answers, or answers with labels, a row has on average; None: not known. Raises
    InputError where trainer.batch_pairs needs it.
    """
    trainer, context = config.trainer, config.data.context_length
    if trainer.batch_pairs is not None:
        if examples_a_row is None:
            raise InputError(f"trainer.batch_pairs={trainer.batch_pairs}: its rows are not known before the data")
        unit = (trainer.micro_batch_size or 1) * ranks(trainer)
        return BatchSize((), max(1, round(trainer.batch_pairs / examples_a_row / unit)) * unit)
    full = trainer.batch_tokens // context
    if trainer.initial_batch_tokens is None:
        return BatchSize((), full)
    unit = micro_batches(trainer, full)
    warmup = parse_length("trainer.batch_warmup", trainer.batch_warmup)
    match warmup.unit:
        case "fraction":
            length = warmup.amount * token_bound(config) / context
        case "tokens":
            length = warmup.amount / context
        case "steps":
            length = warmup.amount * full
    initial = trainer.initial_batch_tokens // context
    ramp: list[int] = []
    done = 0
    while done < length:
        grown = initial + (full - initial) * done / length
        ramp.append(max(unit, int(grown // unit) * unit))
        done += ramp[-1]
    return BatchSize(tuple(ramp), full)
