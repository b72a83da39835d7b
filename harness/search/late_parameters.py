"""The parameters of a space that act late in a run: trials that differ in nothing else train the same first steps.

Nobody declares them. A parameter is late if training depends on it by the plan of the steps alone, and its first step does not.
At which step two trials really part is seen from their plans (see `harness.training.shared_steps`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from harness.config.errors import InputError
from harness.config.nested import flat
from harness.config.schema import Config
from harness.config.state_key import state_values
from harness.config.validate import to_plain
from harness.search.parameter import Parameter
from harness.search.sweep import Sweep

FROM_THE_FIRST_STEP = (
    "optim.lr",
    "optim.betas",
    "optim.weight_decay",
    "schedule.initial_lr",
    "schedule.warmup",
    "data.replay_share",
    "trainer.batch_tokens",
    "trainer.batch_pairs",
    "trainer.initial_batch_tokens",
)
"""Parameters of the plan that change its first step, or one soon after. Listed to save time: the tables would say the same."""
VALUES_OF_A_RANGE = 5
"""A range is represented by so many of its values; a trial in between goes on from the value before."""


class LateParameters:
    """The late parameters of a sweep."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self.parameters = [parameter for parameter in sweep.space.parameters if _is_late(sweep, parameter)]

    @property
    def trials_share_steps(self) -> bool:
        """Whether any two trials will train the same first steps: not where an early parameter is drawn from a continuous range."""
        early = [parameter for parameter in self._sweep.space.parameters if parameter not in self.parameters]
        return bool(self.parameters) and all(parameter.choices or parameter.step or parameter.is_integer for parameter in early)

    def variants(self, params: dict[str, Any], config: Config) -> list[dict[str, Any]]:
        """The keys in which trials differ that may share the first steps of a trial, and their values: a run twice as long; each choice, or
        some values of the range, of each late parameter. Not all of them need be valid.

        Args: params and config of the trial. Returns: for each variant {dotted configuration key: value}.
        """
        values = dict(flat(to_plain(config)))
        length = {
            key: 2 * values[key] for key in ("trainer.max_tokens", "trainer.max_steps", "trainer.max_epochs") if values[key] is not None
        }
        return [length, *(difference for parameter in self.parameters for difference in self._varied(parameter, params, values))]

    def _varied(self, parameter: Parameter, params: dict[str, Any], values: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if parameter.key not in params:
            return
        for value in _representatives(parameter):
            if value == params[parameter.key]:
                continue
            if not parameter.is_group:
                yield {parameter.key: value}
                continue
            point: dict[str, Any] = {}
            for other in self._sweep.space.parameters:
                if other.is_active(point) and other.key in params:
                    point[other.key] = value if other is parameter else params[other.key]
            with contextlib.suppress(InputError):  # no trial has values that do not go together
                composed = dict(flat(to_plain(self._sweep.trial_config(point))))
                yield {key: new for key, new in composed.items() if values.get(key) != new}


def _is_late(sweep: Sweep, parameter: Parameter) -> bool:
    """Whether trials that differ in this parameter alone may train the same first steps."""
    if parameter.key in FROM_THE_FIRST_STEP:
        return False
    probes = sweep.probes(parameter)
    try:
        first = state_values(sweep.trial_config(next(probes)))
        return all(state_values(sweep.trial_config(probe)) == first for probe in probes)
    except InputError:
        return False


def _representatives(parameter: Parameter) -> list[Any]:
    if parameter.choices:
        return list(parameter.choices)
    values = [parameter.at(index / (VALUES_OF_A_RANGE - 1)) for index in range(VALUES_OF_A_RANGE)]
    return list(dict.fromkeys(round(value) for value in values)) if parameter.is_integer else values
