"""A sweep: the file that defines a study, resolved with its base configuration, checked, and frozen at launch."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.config.checks.trainer import token_bound
from harness.config.compose import compose
from harness.config.errors import InputError, unknown, wrong_value
from harness.config.introspect import find
from harness.config.load import Loaded, load, set_value
from harness.config.locations import sweep_dirs, sweep_names
from harness.config.overrides import ValueOverride, parse
from harness.config.schema import Config
from harness.config.sweep_schema import SweepConfig
from harness.config.user_yaml import read_mapping
from harness.config.validate import to_plain, to_section
from harness.runs.files import read_yaml
from harness.runs.metric_names import HIGHER_IS_BETTER, evaluation_metrics
from harness.search.space import Parameter, Space, parse_space
from harness.search.storage.address import without_password

SWEEP_KEYS = ("search", "launcher", "budget", "storage")
"""Overrides of `harness sweep` that are about the sweep; all others are about its runs."""
RUN_METRICS = ("train/loss", "train/gradient_norm", "tokens_per_second", "lr")
LENGTH_KEYS = ("trainer.max_tokens", "trainer.max_steps", "trainer.batch_tokens")


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

    def composed(self, choices: Sequence[str]) -> Loaded:
        """The base with other choices of groups. Composing takes a tenth of a second: each combination is composed once."""
        key = tuple(choices)
        if key not in self._compositions:
            self._compositions[key] = load([*self.config.base, *key])
        return self._compositions[key]

    @cached_property
    def _compositions(self) -> dict[tuple[str, ...], Loaded]:
        return {(): self.base}

    def trial_config(self, params: dict[str, Any]) -> Config:
        """The configuration of a trial. Raises InputError where the values do not go together."""
        choices, values = self.space.split(params)
        loaded = self.composed(choices)
        return (loaded.with_values(values) if values else loaded).config

    def probes(self, parameter: Parameter) -> Iterator[dict[str, Any]]:
        """Points that try the ends of a range, or every choice, where this parameter takes part; the others are as in the base."""
        conditions = self.space.conditions(parameter.key)
        for values in itertools.product(*conditions.values()):
            for value in parameter.extremes:
                yield {**dict(zip(conditions, values, strict=True)), parameter.key: value}

    def trial_tokens(self, params: dict[str, Any]) -> int:
        """Upper bound of the tokens that a trial trains."""
        choices, values = self.space.split({p.key: params[p.key] for p in self._length_parameters if p.key in params})
        config = self.composed(choices).config
        length = {key.removeprefix("trainer."): value for key, value in values.items()}
        return token_bound(dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, **length)))

    @cached_property
    def largest_trial_tokens(self) -> int:
        """No trial of this space trains more."""
        names = [parameter.key for parameter in self._length_parameters]
        points = itertools.product(*(parameter.extremes for parameter in self._length_parameters))
        return max(self.trial_tokens(dict(zip(names, values, strict=True))) for values in points)

    @cached_property
    def _length_parameters(self) -> list[Parameter]:
        """The parameters that decide how much a trial trains: keys of the length, and groups with a choice that sets one."""
        return [
            parameter
            for parameter in self.space.parameters
            if parameter.key in LENGTH_KEYS
            or (parameter.is_group and any(self._length(probe) != self._length({}) for probe in self.probes(parameter)))
        ]

    def _length(self, params: dict[str, Any]) -> tuple[int | None, ...]:
        trainer = self.composed(self.space.split(params)[0]).config.trainer
        return trainer.max_tokens, trainer.max_steps, trainer.batch_tokens

    def frozen(self) -> dict[str, Any]:
        """What sweep.yaml holds; sides of constraints and units of the budget that have no limit are left out."""
        plain = to_plain(self.config)
        plain["constraints"] = {metric: _limits(bound) for metric, bound in plain["constraints"].items()}
        plain["budget"] = _limits(plain["budget"])
        return {"name": self.name, **plain, "largest_trial_tokens": self.largest_trial_tokens, "config": to_plain(self.base.config)}


def _limits(values: dict[str, Any]) -> dict[str, Any]:
    return {name: limit for name, limit in values.items() if limit is not None}


def load_sweep(word: str, overrides: list[str], *, name: str | None = None) -> Sweep:
    """Read a sweep by name or file, with overrides, and check all of it. Raises InputError before anything is written.

    name: of the study; the file's when it is None.
    """
    if name is not None and not re.fullmatch(r"[\w][\w.-]*", name):
        raise wrong_value("--name", name, "expected a plain name, e.g. cpt_random")
    path = _find(word)
    document = read_mapping(path, holds="objective, space, budget, …")
    own = [text for text in overrides if text.lstrip("+~").split("=")[0].split(".")[0] in SWEEP_KEYS]
    base = document.get("base") or []
    if not isinstance(base, list) or not all(isinstance(text, str) for text in base):
        raise wrong_value("base", base, "expected a list of overrides, e.g. [experiment=cpt, trainer.max_tokens=2e6]", where=str(path))
    document = {**document, "base": [*base, *(text for text in overrides if text not in own)]}
    try:
        sweep = Sweep(name or path.stem, _resolve(document, own, str(path)))
        check(sweep)
    except InputError as error:
        lines = str(error).splitlines()
        raise InputError("\n".join(line if str(path) in line else f"{path}: {line}" for line in lines)) from None
    return sweep


def thaw(path: Path) -> Sweep:
    """The sweep of a study that was launched, from its sweep.yaml. Raises InputError when its base resolves differently by now."""
    document = read_yaml(path)
    frozen = document.pop("config")
    for derived in ("launched", "largest_trial_tokens"):
        document.pop(derived)
    sweep = Sweep(document.pop("name"), to_section(SweepConfig, document))
    differences = list(_differences(frozen, to_plain(sweep.base.config)))
    if differences:
        raise InputError(f"{path}: the configuration files changed since this study was launched:\n" + "\n".join(differences))
    return sweep


def differences(frozen: dict[str, Any], sweep: Sweep) -> list[str]:
    """What a study that was launched has otherwise; budget and launcher may change."""
    changeable = ("budget", "launcher", "launched", "largest_trial_tokens")
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
            raise wrong_value(group, given, "expected a name, or a mapping with name and more")
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
    if isinstance(values.get("storage"), str):
        values["storage"] = without_password(values["storage"])
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
    metrics = [*evaluation_metrics(base.data), *RUN_METRICS]
    for key, metric in [("objective.metric", config.objective.metric), *(("constraints", metric) for metric in config.constraints)]:
        if metric not in metrics:
            raise unknown("metric", metric, metrics, where=key)
    if config.objective.direction == "minimize" and config.objective.metric.endswith(HIGHER_IS_BETTER):
        raise wrong_value("objective.direction", "minimize", f"more of {config.objective.metric} is better; valid: maximize")
    for metric, bound in config.constraints.items():
        if bound.max is None and bound.min is None:
            raise InputError(f"constraints.{metric}: give max or min, e.g. {{max: 0.25}}")
        if bound.max is not None and bound.min is not None and bound.min > bound.max:
            raise InputError(f"constraints.{metric}: min={bound.min} exceeds max={bound.max}, nothing could meet both")
    _check_readers(sweep)
    _check_probes(sweep)
    if config.budget.tokens is not None and config.budget.tokens < sweep.largest_trial_tokens:
        raise InputError(f"budget.tokens={config.budget.tokens}: less than one trial, which may train {sweep.largest_trial_tokens} tokens")


def _check_readers(sweep: Sweep) -> None:
    """A parameter that only some kinds read must be conditional on them."""
    for parameter in sweep.space.parameters:
        item = None if parameter.is_group else find(Config, parameter.key)
        if item is None or not item.only_for:
            continue
        group = item.chooser(parameter.key)
        chooser = next((other.key for other in sweep.space.parameters if other.key in (group, f"{group}.name")), None)
        if chooser is None:
            idle = [getattr(sweep.base.config, group).name]
            hint = f"the base has {group}.name={idle[0]}"
        else:
            idle = list(sweep.space.conditions(parameter.key).get(chooser, sweep.space[chooser].choices))
            hint = f"add when: {{{chooser}: {', '.join(item.only_for)}}}"
        # A choice of a group may bear another name than the kind that it sets.
        idle = [str(choice) for choice in idle if _kind(sweep, group, chooser, choice) not in item.only_for]
        if idle:
            raise InputError(f"space.{parameter.key}: not read by {', '.join(idle)}, only by {', '.join(item.only_for)}; {hint}")


def _kind(sweep: Sweep, group: str, chooser: str | None, choice: Any) -> Any:
    return getattr(sweep.composed([f"{group}={choice}"]).config, group).name if chooser == group else choice


def _check_probes(sweep: Sweep) -> None:
    """Validate the base with every end of every range and every choice, each alone: what is out of range is found before the start."""
    for parameter in sweep.space.parameters:
        for params in sweep.probes(parameter):
            try:
                sweep.trial_config(params)
            except InputError as error:
                values = ", ".join(f"{key}={value}" for key, value in params.items())
                raise InputError(f"space.{parameter.key}: {values} is not valid: {error}") from None
