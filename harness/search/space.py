"""The space of a study: parameters over configuration keys, with ranges, choices and conditions."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from harness.config.errors import InputError, did_you_mean, unknown, wrong_value
from harness.config.introspect import Field, describe, find, is_number, may_hold_number
from harness.config.locations import choices, groups
from harness.config.nested import lookup
from harness.config.schema import Config
from harness.config.validate import unknown_key
from harness.search.parameter import Parameter

if TYPE_CHECKING:
    from optuna.trial import Trial


@dataclass(frozen=True)
class Space:
    """Parameters, each after those it depends on."""

    parameters: tuple[Parameter, ...]

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """A point: the values of the active parameters, by key."""
        values: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter.is_active(values):
                values[parameter.key] = parameter.suggest(trial)
        return values

    def drawn(self, generator: random.Random, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A point: the active parameters at their given values, or drawn."""
        point: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter.is_active(point):
                known = given is not None and parameter.key in given
                point[parameter.key] = given[parameter.key] if known and given is not None else parameter.drawn(generator)
        return point

    def split(self, values: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
        """A point as group overrides and as values by configuration key."""
        grouped = {parameter.key for parameter in self.parameters if parameter.is_group}
        return [f"{key}={value}" for key, value in values.items() if key in grouped], {k: v for k, v in values.items() if k not in grouped}

    def in_optuna(self, values: dict[str, Any]) -> dict[str, Any]:
        """A point as Optuna's record has it."""
        return {key: self[key].in_optuna(value) for key, value in values.items()}

    def values_of(self, groups: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
        """A configuration's values of all parameters, None where it has none. groups: the choice made in each configuration group."""
        return {item.key: groups.get(item.key) if item.is_group else lookup(config, item.key) for item in self.parameters}

    def conditions(self, key: str) -> dict[str, tuple[Any, ...]]:
        """The parameters on which this one depends, through others too, and their values with which it is active."""
        found: dict[str, tuple[Any, ...]] = {}
        for name, allowed in self[key].when.items():
            for other, values in [*self.conditions(name).items(), (name, allowed)]:
                found[other] = tuple(value for value in found.get(other, values) if value in values)
        return found

    def __getitem__(self, key: str) -> Parameter:
        return next(parameter for parameter in self.parameters if parameter.key == key)


RANGE_KEYS = ("low", "high", "log", "step", "multiple_of")
PARAMETER_KEYS = (*RANGE_KEYS, "choices", "ordered", "when")
MOST_STEPS = 1e15
"""More values than floats tell apart."""


def parse_space(raw: dict[str, Any]) -> Space:
    """Read the `space` of a sweep file. Raises InputError for keys that do not exist and for impossible ranges."""
    if not raw:
        raise InputError("space: empty; declare at least one parameter, e.g. optim.lr: {low: 1e-4, high: 1e-1, log: true}")
    known_groups = groups()
    parameters = {key: _parameter(key, spec, is_group=key in known_groups) for key, spec in raw.items()}
    for parameter in parameters.values():
        _check_conditions(parameter, parameters)
        if parameters.keys() & parameter.chooses:
            raise InputError(f"space.{parameter.key}.name: {parameter.key} is a parameter of this space and chooses it already")
    order = TopologicalSorter({key: list(parameter.when) for key, parameter in parameters.items()})
    try:
        space = Space(tuple(parameters[key] for key in order.static_order()))
    except CycleError as error:
        raise InputError(f"space: the conditions of {', '.join(dict.fromkeys(error.args[1]))} go round in a circle") from None
    for key in parameters:
        for other, values in space.conditions(key).items():
            if not values:
                raise InputError(f"space.{key}.when: never happens, its conditions ask for different values of {other}")
    return space


def _parameter(key: str, spec: Any, *, is_group: bool) -> Parameter:
    where = f"space.{key}"
    item = None if is_group else find(Config, key)
    if item is None and not is_group:
        raise InputError(f"space: {unknown_key(Config, key)}")
    if not isinstance(spec, dict):
        raise InputError(f"{where}={spec}: expected {{low: …, high: …}} or {{choices: […]}}")
    for name in spec:
        if name not in PARAMETER_KEYS:
            raise unknown("key", str(name), PARAMETER_KEYS, where=where)
    when = _when(where, spec.get("when"))
    if "choices" in spec:
        extra = [name for name in RANGE_KEYS if name in spec]
        if extra:
            raise InputError(f"{where}: choices and {', '.join(extra)} exclude each other")
        ordered = spec.get("ordered", False)
        if not isinstance(ordered, bool):
            raise wrong_value(f"{where}.ordered", ordered, "expected true or false")
        return Parameter(key, choices=_choices(key, spec["choices"], item), ordered=ordered, when=when, is_group=is_group)
    if "ordered" in spec:
        raise InputError(f"{where}.ordered: of choices alone, a range has its order; valid: {', '.join((*RANGE_KEYS, 'when'))}")
    if item is None:
        raise InputError(f"{where}: {key} is a configuration group; give choices, of {', '.join(choices(key))}")
    return _range(key, spec, item, when)


def _when(where: str, given: Any) -> dict[str, tuple[Any, ...]]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise wrong_value(f"{where}.when", given, "expected {PARAMETER: VALUE} or {PARAMETER: [VALUES]}")
    return {str(name): tuple(value) if isinstance(value, list) else (value,) for name, value in given.items()}


def _choices(key: str, given: Any, item: Field | None) -> tuple[Any, ...]:
    """item: the key's field; None for a group."""
    if not isinstance(given, list) or not given:
        raise wrong_value(f"space.{key}.choices", given, "expected a list of at least one value")
    for choice in given if item is None else []:
        if str(choice) not in choices(key):
            raise unknown(f"choice for {key}", str(choice), choices(key), where=f"space.{key}")
    if any(given.index(choice) != index for index, choice in enumerate(given)):
        raise wrong_value(f"space.{key}.choices", given, "a value stands there twice")
    if item is not None and _is_integer(item):
        return tuple(int(choice) if isinstance(choice, float) and choice.is_integer() else choice for choice in given)
    return tuple(given)


def _is_integer(item: Field) -> bool:
    """Whether a field takes integers and no other numbers."""
    kind = describe(item.annotation)
    return "integer" in kind and "number" not in kind


def _range(key: str, spec: dict[str, Any], item: Field, when: dict[str, tuple[Any, ...]]) -> Parameter:
    where = f"space.{key}"
    if not is_number(item.annotation) and not may_hold_number(item, key):
        raise InputError(f"{where}: {key} is no number but {describe(item.annotation)}; give choices")
    for name in ("low", "high", "step", "multiple_of"):
        value = spec.get(name)
        if value is None and name in ("step", "multiple_of"):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise wrong_value(f"{where}.{name}", "null" if value is None else value, "expected a number")
    low, high, step, log, multiple_of = spec["low"], spec["high"], spec.get("step"), spec.get("log", False), spec.get("multiple_of")
    if not isinstance(log, bool):
        raise wrong_value(f"{where}.log", log, "expected true or false")
    if low > high:
        raise wrong_value(f"{where}.low", low, f"must not exceed high={high}")
    if log and low <= 0:
        raise wrong_value(f"{where}.low", low, "must be > 0 on a log scale")
    if step is not None and step <= 0:
        raise wrong_value(f"{where}.step", step, "must be > 0")
    if multiple_of is not None and multiple_of <= 0:
        raise wrong_value(f"{where}.multiple_of", multiple_of, "must be > 0")
    for name, grain in (("step", step), ("multiple_of", multiple_of)):
        if grain is not None and (high - low) / grain > MOST_STEPS:
            many = f"more than {MOST_STEPS:.0e} values from {low} to {high}; without {name} all between are valid"
            raise wrong_value(f"{where}.{name}", grain, many)
    if log and step is not None:
        raise InputError(f"{where}: log and step exclude each other; with log, multiple_of={step} takes the nearest multiple")
    if step is not None and multiple_of is not None:
        raise InputError(f"{where}: step and multiple_of exclude each other")
    parts = (("low", low), ("high", high), ("step", step), ("multiple_of", multiple_of))
    given = {name: value for name, value in parts if value is not None}
    is_integer = _is_integer(item)
    for name, value in given.items():
        if is_integer and not float(value).is_integer():
            raise wrong_value(f"{where}.{name}", value, f"{key} is an integer")
    # Where integers and other numbers mean different things (a warm-up of 10 steps, of 0.1 of the run), integers stay integers.
    is_integer = is_integer or ("integer" in describe(item.annotation) and all(isinstance(value, int) for value in given.values()))
    if is_integer:
        low, high, step = int(low), int(high), None if step is None else int(step)
        multiple_of = None if multiple_of is None else int(multiple_of)
    if multiple_of is not None:
        low, high = _multiples_within(where, low, high, multiple_of)
        step = None if log else multiple_of
    if step is not None:
        high = _last_on_grid(low, high, step)
    return Parameter(key, low=low, high=high, step=step, log=log, multiple_of=multiple_of, when=when, is_integer=is_integer)


def _multiples_within(where: str, low: float, high: float, unit: float) -> tuple[float, float]:
    """The first and the last multiple of `unit` from low to high, in decimals."""
    exact = Decimal(str(unit))
    first = (Decimal(str(low)) / exact).to_integral_value(ROUND_CEILING) * exact
    last = (Decimal(str(high)) / exact).to_integral_value(ROUND_FLOOR) * exact
    if first > last:
        raise wrong_value(f"{where}.multiple_of", unit, f"no multiple lies from {low} to {high}")
    as_given = int if isinstance(unit, int) else float
    return as_given(first), as_given(last)


def _last_on_grid(low: float, high: float, step: float) -> float | int:
    """The largest low + n * step that does not exceed high, in decimals: 0.3 is three steps of 0.1."""
    steps = (Decimal(str(high)) - Decimal(str(low))) // Decimal(str(step))
    last = Decimal(str(low)) + steps * Decimal(str(step))
    return int(last) if isinstance(low, int) and isinstance(step, int) else float(last)


def _check_conditions(parameter: Parameter, parameters: dict[str, Parameter]) -> None:
    for key, allowed in parameter.when.items():
        where = f"space.{parameter.key}.when"
        if key not in parameters:
            raise InputError(
                f"{where}: {key!r} is not a parameter of this space."
                + did_you_mean(key, parameters)
                + f" Valid: {', '.join(name for name in parameters if name != parameter.key)}."
            )
        other = parameters[key]
        if not other.choices:
            raise InputError(f"{where}: {key} has a range; conditions are on choices")
        for value in allowed:
            if value not in other.choices:
                raise InputError(f"{where}.{key}={value}: never happens, {key} is one of {', '.join(map(str, other.choices))}")
