"""A sweep: the file that defines a study, resolved with its base configuration, checked, and frozen at launch."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.config.checks import token_bound
from harness.config.compose import compose
from harness.config.errors import InputError, unknown
from harness.config.introspect import find
from harness.config.load import Loaded, load, set_value
from harness.config.locations import sweep_dirs, sweep_names
from harness.config.overrides import ValueOverride, parse
from harness.config.schema import Config
from harness.config.sweep_schema import SweepConfig
from harness.config.user_yaml import read_mapping
from harness.config.validate import to_plain, to_section
from harness.runs.files import read_yaml
from harness.search.space import Parameter, Space, parse_space

SWEEP_KEYS = ("search", "launcher", "budget")
"""Overrides of `harness sweep` that are about the sweep; all others are about its runs."""
RUN_METRICS = ("train/loss", "train/gradient_norm", "tokens_per_second", "lr")
VALIDATION_METRICS = ("loss", "bits_per_byte", "forgetting")


@dataclass(frozen=True)
class Sweep:
    """A sweep file as it will be run."""

    name: str
    config: SweepConfig

    @cached_property
    def base(self) -> Loaded:
        """The configuration that every trial starts from."""
        return load(self.config.base)

    @cached_property
    def space(self) -> Space:
        return parse_space(self.config.space)

    def trial_config(self, params: dict[str, Any]) -> Config:
        """The configuration of a trial. Raises InputError where the values do not go together."""
        choices, values = self.space.split(params)
        return load([*self.config.base, *choices], values).config

    def trial_tokens(self, params: dict[str, Any]) -> int:
        """Upper bound of the tokens that a trial trains."""
        config = copy.deepcopy(self.base.config)
        for key, value in params.items():
            if key.startswith("trainer."):
                setattr(config.trainer, key.removeprefix("trainer."), value)
        return token_bound(config)

    @cached_property
    def largest_trial_tokens(self) -> int:
        """No trial of this space trains more."""
        return self.trial_tokens(
            {parameter.key: max(parameter.extremes) for parameter in self.space.parameters if parameter.key.startswith("trainer.")}
        )

    def frozen(self) -> dict[str, Any]:
        """What sweep.yaml holds; sides of constraints and units of the budget that have no limit are left out."""
        plain = to_plain(self.config)
        plain["constraints"] = {metric: _limits(bound) for metric, bound in plain["constraints"].items()}
        plain["budget"] = _limits(plain["budget"])
        return {"name": self.name, **plain, "config": to_plain(self.base.config)}


def _limits(values: dict[str, Any]) -> dict[str, Any]:
    return {name: limit for name, limit in values.items() if limit is not None}


def load_sweep(word: str, overrides: list[str]) -> Sweep:
    """Read a sweep by name or file, with overrides, and check all of it. Raises InputError before anything is written."""
    path = _find(word)
    document = read_mapping(path, holds="objective, space, budget, …")
    own = [text for text in overrides if text.lstrip("+~").split("=")[0].split(".")[0] in SWEEP_KEYS]
    document = {**document, "base": [*(document.get("base") or []), *(text for text in overrides if text not in own)]}
    sweep = Sweep(path.stem, _resolve(document, own, str(path)))
    try:
        check(sweep)
    except InputError as error:
        raise InputError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None
    return sweep


def thaw(path: Path) -> Sweep:
    """The sweep of a study that was launched, from its sweep.yaml. Raises InputError when its base resolves differently by now."""
    document = read_yaml(path)
    frozen = document.pop("config")
    document.pop("launched")
    sweep = Sweep(document.pop("name"), to_section(SweepConfig, document))
    differences = list(_differences(frozen, to_plain(sweep.base.config)))
    if differences:
        raise InputError(f"{path}: the configuration files changed since this study was launched:\n" + "\n".join(differences))
    return sweep


def differences(frozen: dict[str, Any], sweep: Sweep) -> list[str]:
    """What a study that was launched has otherwise; budget and launcher may change."""
    changeable = ("budget", "launcher", "launched")
    now = {key: value for key, value in sweep.frozen().items() if key not in changeable}
    return list(_differences({key: value for key, value in frozen.items() if key not in changeable}, now))


def _differences(before: Any, now: Any, key: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in [*before, *(name for name in now if name not in before)]:
            yield from _differences(before.get(name), now.get(name), f"{key}.{name}" if key else str(name))
    elif before != now:
        yield f"  {key}: {_shown(before)} at launch, {_shown(now)} now"


def _shown(value: Any) -> str:
    return "absent" if value is None else str(value)


def _find(word: str) -> Path:
    if word.endswith((".yaml", ".yml")) or "/" in word:
        path = Path(word)
        if not path.is_file():
            raise InputError(f"sweep file {word}: no such file")
        return path
    found = next((path for base in sweep_dirs() if (path := base / f"{word}.yaml").is_file()), None)
    if found is None:
        raise unknown("sweep", word, sweep_names())
    return found


def _resolve(document: dict[str, Any], overrides: list[str], path: str) -> SweepConfig:
    choices = []
    body = copy.deepcopy(document)
    for group in ("search", "launcher"):
        given = body.pop(group, None)
        if isinstance(given, str):
            choices.append(f"{group}={given}")
        elif isinstance(given, dict):
            choices += [f"{group}={given['name']}"] if "name" in given else []
            body[group] = {key: value for key, value in given.items() if key != "name"}
        elif given is not None:
            raise InputError(f"{path}: {group}={given}: expected a name, or a mapping with name and more")
    parsed = parse(overrides, SweepConfig)
    composed = compose(
        "sweep",
        SweepConfig,
        [*choices, *(text for text, override in zip(overrides, parsed, strict=True) if not isinstance(override, ValueOverride))],
    )
    values = _merged(composed.values, body)
    for override in parsed:
        if isinstance(override, ValueOverride):
            set_value(values, override.key, override.value)
    return to_section(SweepConfig, values, origin=lambda key: path)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }
    return {**below, **both}


def check(sweep: Sweep) -> None:
    """Raise InputError for a sweep that could not be run as it stands."""
    config, base = sweep.config, sweep.base.config
    if config.budget.trials is None and config.budget.tokens is None:
        raise InputError("budget: give at least one limit, e.g. budget: {trials: 32}; valid: trials, tokens")
    if config.budget.tokens is not None and config.budget.tokens < sweep.largest_trial_tokens:
        raise InputError(f"budget.tokens={config.budget.tokens}: less than one trial, which may train {sweep.largest_trial_tokens} tokens")
    metrics = [*(f"val/{domain}/{name}" for domain in base.data.validation for name in VALIDATION_METRICS), *RUN_METRICS]
    for key, metric in [("objective.metric", config.objective.metric), *(("constraints", metric) for metric in config.constraints)]:
        if metric not in metrics:
            raise unknown("metric", metric, metrics, where=key)
    for metric, bound in config.constraints.items():
        if bound.max is None and bound.min is None:
            raise InputError(f"constraints.{metric}: give max or min, e.g. {{max: 0.25}}")
    _check_readers(sweep)
    _check_extremes(sweep)


def _check_readers(sweep: Sweep) -> None:
    """A parameter that only some kinds read must be conditional on them."""
    base = sweep.base.config
    keys = {parameter.key for parameter in sweep.space.parameters}
    for parameter in sweep.space.parameters:
        item = None if parameter.is_group else find(Config, parameter.key)
        if item is None or not item.only_for:
            continue
        group = parameter.key.split(".")[0]
        chooser = next((key for key in (group, f"{group}.name") if key in keys), None)
        kinds = parameter.when.get(chooser, sweep.space[chooser].choices) if chooser else (getattr(base, group).name,)
        idle = [str(kind) for kind in kinds if kind not in item.only_for]
        if idle:
            hint = f"add when: {{{chooser}: {', '.join(item.only_for)}}}" if chooser else f"the base has {group}.name={kinds[0]}"
            raise InputError(f"space.{parameter.key}: not read by {', '.join(idle)}, only by {', '.join(item.only_for)}; {hint}")


def _check_extremes(sweep: Sweep) -> None:
    """Compose the base with every end of every range and every choice, each alone: what is out of range is found before the start."""
    composed: dict[tuple[str, ...], Loaded] = {}
    for parameter in sweep.space.parameters:
        for value in parameter.extremes:
            params = {**_conditions(sweep.space, parameter), parameter.key: value}
            choices, values = sweep.space.split(params)
            try:
                if tuple(choices) not in composed:
                    composed[tuple(choices)] = load([*sweep.config.base, *choices])
                composed[tuple(choices)].with_values(values)
            except InputError as error:
                raise InputError(f"space.{parameter.key}: {parameter.key}={value} is not valid: {error}") from None


def _conditions(space: Space, parameter: Parameter) -> dict[str, Any]:
    """Values of the other parameters under which this one is active."""
    params: dict[str, Any] = {}
    for key, allowed in parameter.when.items():
        params = {**params, **_conditions(space, space[key]), key: allowed[0]}
    return params
