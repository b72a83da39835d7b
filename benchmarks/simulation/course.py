"""The course of a run as its configuration alone tells it: steps, tokens, and where its state could be another run's as well.

It is the rule of `harness.training.shared_steps`, without the data: rows are taken to be full, and sources to be told apart by their paths.
Two runs share s steps if the values of their state keys are equal and their plans say the same of each of the first s steps: rate,
betas, weight decay, rows, share of replay.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.config.checks.trainer import planned_steps
from harness.config.errors import InputError
from harness.config.nested import flat
from harness.config.schema import Config
from harness.config.state_key import BY_FINGERPRINT, matches_key, state_values
from harness.config.validate import to_plain
from harness.runs.trunks import trunk_key
from harness.schedule.batch_size import resolve_batch_size
from harness.schedule.learning_rate import learning_rate, resolve_schedule
from harness.schedule.replay_share import replay_shares


class Course:
    """Steps and tokens of a run."""

    def __init__(self, config: Config) -> None:
        steps = planned_steps(config.trainer)
        assert steps is not None, "checked: a run has a length"
        self.config = config
        self.steps = steps
        self._tokens = resolve_batch_size(config).rows_before(steps) * config.data.context_length

    @property
    def tokens(self) -> int:
        return self.tokens_after(self.steps)

    def tokens_after(self, step: int) -> int:
        return int(self._tokens[step])

    def step_at(self, tokens: float) -> int:
        """How many whole steps this many tokens make."""
        return int(np.searchsorted(self._tokens, tokens, side="right")) - 1

    @cached_property
    def state(self) -> dict[str, Any]:
        """What the state depends on besides the plan."""
        plain = flat(to_plain(self.config))
        return {**state_values(self.config), **{key: value for key, value in plain if matches_key(key, BY_FINGERPRINT)}}

    @cached_property
    def table(self) -> NDArray[np.float64]:
        """What the plan says of each step: [steps, settings]."""
        config, schedule = self.config, resolve_schedule(self.config, self.steps)
        table = np.empty((self.steps, 6))
        table[:, 0] = [learning_rate(schedule, step) for step in range(self.steps)]
        table[:, 1:3] = config.optim.betas
        table[:, 3] = config.optim.weight_decay
        decay = slice(schedule.decay_start, None)
        if config.schedule.decay_betas is not None:
            table[decay, 1:3] = config.schedule.decay_betas
        if config.schedule.decay_weight_decay is not None:
            table[decay, 3] = config.schedule.decay_weight_decay
        table[:, 4] = np.diff(self._tokens)
        table[:, 5] = replay_shares(config, schedule)
        return table

    def shared_with(self, other: Course) -> int:
        """How many steps the two have in common."""
        if self.state != other.state:
            return 0
        steps = min(self.steps, other.steps)
        differ = (self.table[:steps] != other.table[:steps]).any(axis=1)
        return int(differ.argmax()) if differ.any() else steps

    def key(self, step: int) -> str:
        """Names the state after a step: equal keys, equal states."""
        return trunk_key(step, hashlib.blake2b(self._encoded_state + self.table[:step].tobytes(), digest_size=16).hexdigest())

    @cached_property
    def _encoded_state(self) -> bytes:
        return json.dumps(self.state, sort_keys=True).encode()

    def leaves(self, relatives: Iterable[dict[str, Any]]) -> list[int]:
        """The steps after which runs that have these values otherwise, by dotted key, leave its path; rising."""
        found = set()
        for values in relatives:
            try:
                found.add(self.shared_with(Course(_varied(self.config, values))))
            except InputError:
                continue
        return sorted(step for step in found if 0 < step < self.steps)


def _varied(config: Config, values: dict[str, Any]) -> Config:
    varied = copy.deepcopy(config)
    for key, value in values.items():
        *sections, name = key.split(".")
        section: Any = varied
        for part in sections:
            section = section[part] if isinstance(section, dict) else getattr(section, part)
        setattr(section, name, value)
    return varied
