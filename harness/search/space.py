"""The space of a study: parameters over configuration keys, with ranges, choices and conditions."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from harness.config.errors import InputError, did_you_mean, unknown, wrong_value
from harness.config.introspect import Field, describe, find, is_number
from harness.config.locations import choices, groups
from harness.config.nested import lookup
from harness.config.schema import Config
from harness.config.validate import unknown_key

if TYPE_CHECKING:
    from optuna.trial import Trial

Primitive = None | bool | int | float | str


@dataclass(frozen=True)
class Parameter:
    """One dimension of a space: a range (low, high) or choices."""

    key: str
    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    step: float | int | None = None
    choices: tuple[Any, ...] = ()
    when: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Active only while each of these parameters has one of these values."""
    is_group: bool = False
    """The choices are of a configuration group, not values of a key."""
    is_integer: bool = False

    def is_active(self, values: dict[str, Any]) -> bool:
        """Whether this parameter takes part, given the values of those that come before it."""
        return all(key in values and values[key] in allowed for key, allowed in self.when.items())

    def suggest(self, trial: Trial) -> Any:
        """Let an Optuna trial choose a value."""
        if self.choices:
            labels = {_label(choice): choice for choice in self.choices}
            return labels[trial.suggest_categorical(self.key, list(labels))]
        low, high = self.bounds
        if self.is_integer:
            return trial.suggest_int(self.key, int(low), int(high), step=int(self.step or 1), log=self.log)
        value = trial.suggest_float(self.key, low, high, step=self.step, log=self.log)
        return value if self.step is None else _on_grid(value, low, self.step)

    def in_optuna(self, value: Any) -> Any:
        """A value as Optuna's record has it."""
        return _label(value) if self.choices else value

    @property
    def bounds(self) -> tuple[float, float]:
        """The ends of a range."""
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high

    def at(self, share: float) -> float:
        """The value at a share (0 to 1) of a range, of its logarithm on a log scale; not yet on its grid."""
        low, high = self.bounds
        return low * (high / low) ** share if self.log else low + (high - low) * share

    def drawn(self, generator: random.Random) -> Any:
        """A uniform draw from the range (of its logarithm on a log scale) or the choices."""
        return generator.choice(self.choices) if self.choices else self.nearest(self.at(generator.random()))

    def nearest(self, value: float) -> float | int:
        """The value of a range that lies nearest: within its ends, on its grid."""
        low, high = self.bounds
        within = min(max(value, low), high)
        if self.step is not None:
            within = _on_grid(low + round((within - low) / self.step) * self.step, low, self.step)
        return round(within) if self.is_integer else float(within)

    def holds(self, value: Any) -> bool:
        """Whether a trial may have this value."""
        if self.choices:
            return value in self.choices
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and math.isclose(self.nearest(value), value, rel_tol=1e-9)

    @property
    def domain(self) -> str:
        """What would be valid, in words."""
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        return f"from {self.low} to {self.high}" + (f" in steps of {self.step}" if self.step is not None else "")

    @property
    def extremes(self) -> list[Any]:
        """Its ends or choices: if these are valid, so are all values."""
        return list(self.choices) if self.choices else [self.low, self.high]


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


def _label(choice: Any) -> Primitive:
    """Optuna's categories are primitives: a list becomes its JSON."""
    return choice if isinstance(choice, Primitive) else json.dumps(choice)


PARAMETER_KEYS = ("low", "high", "log", "step", "choices", "when")


def parse_space(raw: dict[str, Any]) -> Space:
    """Read the `space` of a sweep file. Raises InputError for keys that do not exist and for impossible ranges."""
    if not raw:
        raise InputError("space: empty; declare at least one parameter, e.g. optim.lr: {low: 1e-4, high: 1e-1, log: true}")
    parameters = {key: _parameter(key, spec) for key, spec in raw.items()}
    for parameter in parameters.values():
        _check_conditions(parameter, parameters)
        if parameter.is_group and f"{parameter.key}.name" in parameters:
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


def _parameter(key: str, spec: Any) -> Parameter:
    where = f"space.{key}"
    is_group = key in groups()
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
        extra = [name for name in ("low", "high", "log", "step") if name in spec]
        if extra:
            raise InputError(f"{where}: choices and {', '.join(extra)} exclude each other")
        return Parameter(key, choices=_choices(key, spec["choices"], item), when=when, is_group=is_group)
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
    if not is_number(item.annotation):
        raise InputError(f"{where}: {key} is no number but {describe(item.annotation)}; give choices")
    for name in ("low", "high", "step"):
        value = spec.get(name)
        if value is None and name == "step":
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise wrong_value(f"{where}.{name}", "null" if value is None else value, "expected a number")
    low, high, step, log = spec["low"], spec["high"], spec.get("step"), spec.get("log", False)
    if not isinstance(log, bool):
        raise wrong_value(f"{where}.log", log, "expected true or false")
    if low > high:
        raise wrong_value(f"{where}.low", low, f"must not exceed high={high}")
    if log and low <= 0:
        raise wrong_value(f"{where}.low", low, "must be > 0 on a log scale")
    if step is not None and step <= 0:
        raise wrong_value(f"{where}.step", step, "must be > 0")
    if log and step is not None:
        raise InputError(f"{where}: log and step exclude each other")
    given = {name: value for name, value in (("low", low), ("high", high), ("step", step)) if value is not None}
    is_integer = _is_integer(item)
    for name, value in given.items():
        if is_integer and not float(value).is_integer():
            raise wrong_value(f"{where}.{name}", value, f"{key} is an integer")
    # Where integers and other numbers mean different things (a warm-up of 10 steps, of 0.1 of the run), integers stay integers.
    is_integer = is_integer or ("integer" in describe(item.annotation) and all(isinstance(value, int) for value in given.values()))
    if is_integer:
        low, high, step = int(low), int(high), None if step is None else int(step)
    if step is not None:
        high = _last_on_grid(low, high, step)
    return Parameter(key, low=low, high=high, step=step, log=log, when=when, is_integer=is_integer)


def _last_on_grid(low: float, high: float, step: float) -> float | int:
    """The largest low + n * step that does not exceed high, in decimals: 0.3 is three steps of 0.1."""
    steps = (Decimal(str(high)) - Decimal(str(low))) // Decimal(str(step))
    last = Decimal(str(low)) + steps * Decimal(str(step))
    return int(last) if isinstance(low, int) and isinstance(step, int) else float(last)


def _on_grid(value: float, low: float, step: float) -> float:
    """Without the binary rest of adding steps up: 0.3, not 0.30000000000000004."""
    decimals = max(0, *(-int(Decimal(str(part)).as_tuple().exponent) for part in (low, step)))
    return round(value, decimals)


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
