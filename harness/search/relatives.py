"""Which other trials may have a beginning in common with a trial: those that differ from it in what comes into play late.

Nothing is declared: a parameter is late if the state of training depends on it by the plan of the steps alone, and its first step does not.
Where the paths really part is seen from the tables, when the trial is planned (see `harness.training.prefix`).
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
from harness.search.space import Parameter
from harness.search.sweep import Sweep

FROM_THE_FIRST_STEP = (
    "optim.lr",
    "optim.betas",
    "optim.weight_decay",
    "schedule.initial_lr",
    "schedule.warmup",
    "data.replay_share",
    "trainer.batch_tokens",
    "trainer.initial_batch_tokens",
)
"""Parameters of the plan that change its first step, or one soon after. Listed to save time: the tables would say the same."""
PLACES_IN_A_RANGE = 5
"""At so many values of a range others may leave; in between, they go on from the place before."""


class Relatives:
    """The relatives of the trials of a study."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self.late = [parameter for parameter in sweep.space.parameters if _is_late(sweep, parameter)]
        """The parameters that trials with a common beginning may differ in."""

    @property
    def will_meet(self) -> bool:
        """Whether trials of this study meet on a path: not where something that is not late is drawn from a continuous range."""
        early = [parameter for parameter in self._sweep.space.parameters if parameter not in self.late]
        return bool(self.late) and all(parameter.choices or parameter.step or parameter.is_integer for parameter in early)

    def of(self, params: dict[str, Any], config: Config) -> list[dict[str, Any]]:
        """What the relatives of a trial have otherwise, by dotted configuration key: the same run twice as long, and those at each choice,
        or at some places of the range, of each late parameter. Not all of them need be valid.

        Args: params and config of the trial.
        """
        values = dict(flat(to_plain(config)))
        length = {key: 2 * values[key] for key in ("trainer.max_tokens", "trainer.max_steps") if values[key] is not None}
        return [length, *(difference for parameter in self.late for difference in self._varied(parameter, params, values))]

    def _varied(self, parameter: Parameter, params: dict[str, Any], values: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if parameter.key not in params:
            return
        for place in _places(parameter):
            if place == params[parameter.key]:
                continue
            if not parameter.is_group:
                yield {parameter.key: place}
                continue
            point: dict[str, Any] = {}
            for other in self._sweep.space.parameters:
                if other.is_active(point) and other.key in params:
                    point[other.key] = place if other is parameter else params[other.key]
            with contextlib.suppress(InputError):  # no trial has values that do not go together
                composed = dict(flat(to_plain(self._sweep.trial_config(point))))
                yield {key: value for key, value in composed.items() if values.get(key) != value}


def _is_late(sweep: Sweep, parameter: Parameter) -> bool:
    """Whether trials that differ in this parameter alone may have their beginning in common."""
    if parameter.key in FROM_THE_FIRST_STEP:
        return False
    probes = sweep.probes(parameter)
    try:
        first = state_values(sweep.trial_config(next(probes)))
        return all(state_values(sweep.trial_config(probe)) == first for probe in probes)
    except InputError:
        return False


def _places(parameter: Parameter) -> list[Any]:
    if parameter.choices:
        return list(parameter.choices)
    assert parameter.low is not None
    assert parameter.high is not None
    low, high = parameter.low, parameter.high
    shares = [place / (PLACES_IN_A_RANGE - 1) for place in range(PLACES_IN_A_RANGE)]
    values = [low * (high / low) ** share if parameter.log else low + (high - low) * share for share in shares]
    return list(dict.fromkeys(round(value) for value in values)) if parameter.is_integer else values
