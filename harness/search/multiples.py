"""Values that have to be multiples of others, as a batch is of whole rows: the schema says which (`MultipleOfKeys`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce
from graphlib import TopologicalSorter
from typing import Any

from harness.config.introspect import find
from harness.config.schema import Config
from harness.search.parameter import Parameter
from harness.search.space import Space


class Multiples:
    """The ranges of a space whose values the schema wants to be multiples."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._parameters: dict[str | int, Parameter] = {parameter.key: parameter for parameter in space.parameters}
        ranges = [parameter.key for parameter in space.parameters if not parameter.choices]
        factors = {key: item.factors for key in ranges if (item := find(Config, key)) is not None and item.factors}
        order = TopologicalSorter({key: [part for part in parts if part in factors] for key, parts in factors.items()})
        self._factors = {key: factors[key] for key in order.static_order()}
        """By key, each after those that it is a multiple of."""

    def moved(self, point: Mapping[str, Any], config_of: Callable[[], Config]) -> dict[str, Any]:
        """The point, with values that are no multiples moved to the nearest in their ranges. config_of: the configuration beside it."""
        found = dict(point)
        for key in self._factors:
            if key in found:
                found[key] = self._space[key].nearest(found[key], self._unit(key, found, config_of()))
        return found

    def with_dependents(self, point: Mapping[str, Any], config_of: Callable[[], Config]) -> dict[str, Any]:
        """A point of some parameters, and those that the configuration's own values do not go with it: moved as a trial's would be. So
        are those that they have to be multiples of, where no trial has the configuration's own value."""
        found = dict(point)
        for key, parts in self._factors.items():
            if key not in found and not any(part in found for part in parts):
                continue
            for parameter in (self._parameters[part] for part in parts if part in self._parameters and part not in found):
                value = _value(config_of(), parameter.key)
                if parameter.is_active(found) and not parameter.holds(value):
                    found[parameter.key] = _nearest(parameter, value)
            if key not in found and self._space[key].is_active(found):
                value = _value(config_of(), key)
                if value is not None and value % self._unit(key, found, config_of()):
                    found[key] = value
        return self.moved(found, config_of)

    def _unit(self, key: str, point: Mapping[str, Any], config: Config) -> int:
        parts = [part if isinstance(part, int) else point.get(part, _value(config, part)) for part in self._factors[key]]
        return math.prod(part for part in parts if isinstance(part, int) and part > 0)


def _nearest(parameter: Parameter, value: Any) -> Any:
    """The value of a trial that is nearest to the configuration's; the first where that is no number."""
    if not isinstance(value, int | float):
        return parameter.extremes[0]
    if not parameter.choices:
        return parameter.nearest(value)
    return min(parameter.choices, key=lambda choice: abs(choice - value) if isinstance(choice, int | float) else math.inf)


def _value(config: Config, key: str) -> Any:
    return reduce(getattr, key.split("."), config)
