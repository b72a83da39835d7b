"""The plan of a run: everything that depends on the step, as tables known before the first one."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from harness.config.checks.trainer import micro_batches, ranks
from harness.config.schema import Config
from harness.optim.per_step import StepSettings
from harness.schedule.batch_size import BatchSize, resolve_batch_size
from harness.schedule.learning_rate import Schedule, learning_rate, resolve_schedule
from harness.schedule.replay_share import replay_shares, varies
from harness.training.objectives.build import build_objective

if TYPE_CHECKING:
    from harness.data.training_data import TrainingData


@dataclass(frozen=True)
class Plan:
    """Steps, batches and rates of a run."""

    steps: int
    batch_size: BatchSize
    accumulation: int
    """Micro-batches of every step on one rank."""
    ranks: int
    """Processes that divide the micro-batches of a step."""
    schedule: Schedule
    betas: tuple[tuple[float, float], tuple[float, float]]
    """optim.betas before the rate decays, and while it does."""
    weight_decay: tuple[float, float]
    """optim.weight_decay, likewise."""
    data: TrainingData
    """The rows in the order of this run."""
    tokens: np.ndarray
    """int64 [steps]: tokens trained after each step, padding not counted."""
    targets: np.ndarray
    """int64 or float64 [steps]: what the summed loss of each step is divided by, its trained tokens or pairs (see `Objective.weights`)."""

    @property
    def rows(self) -> int:
        """Rows of all steps."""
        return int(self._rows_before[-1])

    def tokens_after(self, steps: int) -> int:
        """Tokens trained after `steps` steps."""
        return int(self.tokens[steps - 1]) if steps else 0

    def mixture_of(self, step: int) -> dict[str, float]:
        """The sources that rows are drawn from from this step on (0-based), by name and content, and at which rates."""
        regimes = self.data.order.regimes
        regime = regimes[bisect_right(self._regime_starts, int(self._rows_before[step])) - 1]
        return {
            f"{source.name} {source.fingerprint}": rate
            for source, rate in zip(self.data.sources, regime.rates.tolist(), strict=True)
            if rate > 0
        }

    @cached_property
    def _rows_before(self) -> np.ndarray:
        return self.batch_size.rows_before(self.steps)

    @cached_property
    def _regime_starts(self) -> list[int]:
        return [regime.start for regime in self.data.order.regimes]

    def settings(self, step: int) -> StepSettings:
        """The optimizer's settings in a step (0-based)."""
        decays = step >= self.schedule.decay_start
        return StepSettings(lr=learning_rate(self.schedule, step), betas=self.betas[decays], weight_decay=self.weight_decay[decays])


def build_plan(config: Config, data: TrainingData) -> Plan:
    """Plan a run over `data`. Raises InputError when not a single step fits, or the schedule does not."""
    # As if nothing had been planned with it before: what is replayed when is for this configuration to say.
    data = data.replaying([(0, config.data.replay_share)])
    batch_size = resolve_batch_size(config, examples_a_row=data.examples_a_row)
    schedule, data, tokens = _length(config, data, batch_size)
    steps = schedule.total_steps
    targets = build_objective(config).weights(data, batch_size, steps)
    assert targets.all(), "every row has a token that is trained"
    decayed = config.schedule.decay_weight_decay
    return Plan(
        steps=steps,
        batch_size=batch_size,
        accumulation=micro_batches(config.trainer, batch_size.full) // ranks(config.trainer),
        ranks=ranks(config.trainer),
        schedule=schedule,
        betas=(config.optim.betas, config.schedule.decay_betas or config.optim.betas),
        weight_decay=(config.optim.weight_decay, config.optim.weight_decay if decayed is None else decayed),
        data=data,
        tokens=tokens,
        targets=targets,
    )


def _length(config: Config, data: TrainingData, batch_size: BatchSize) -> tuple[Schedule, TrainingData, np.ndarray]:
    """The schedule over all steps that the run's length allows, the data in its order, and the tokens after each step, int64 [steps]."""
    max_steps, max_tokens, max_epochs = config.trainer.max_steps, config.trainer.max_tokens, config.trainer.max_epochs
    limits = [] if max_steps is None else [max_steps]
    limits += [] if max_tokens is None else [data.steps_for(max_tokens, batch_size)[0]]
    limits += [] if max_epochs is None else [data.steps_within(max_epochs, batch_size)]
    steps = min(limits)  # checked: a run has a length
    while True:
        schedule = resolve_schedule(config, steps)
        ordered = data.replaying(_replay(config, schedule, batch_size)) if varies(config) else data
        tokens = ordered.tokens_after(batch_size, steps)
        # Sources differ in how full their rows are: with another mixture the same steps may hold a few tokens more.
        fits = max_tokens is None or tokens[-1] <= max_tokens
        if steps == 1 or (fits and (max_epochs is None or ordered.epochs(batch_size, steps) <= max_epochs)):
            return schedule, ordered, tokens
        steps -= 1


def _replay(config: Config, schedule: Schedule, batch_size: BatchSize) -> list[tuple[int, float]]:
    """From which row on which share of the tokens is replayed."""
    shares = replay_shares(config, schedule)
    changes = np.flatnonzero(np.diff(shares, prepend=-1.0))
    rows_before = batch_size.rows_before(schedule.total_steps)
    return [(int(rows_before[step]), float(shares[step])) for step in changes]
