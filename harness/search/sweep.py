"""A sweep: the file that defines a study, resolved with its base configuration, checked, and frozen at launch."""

from __future__ import annotations

import dataclasses
import itertools
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from harness.config.checks.trainer import ranks, trains
from harness.config.compose import defaults
from harness.config.errors import InputError
from harness.config.load import Loaded, load
from harness.config.private import paths_in
from harness.config.schema import Config, each, evaluation_sections
from harness.config.sweep_schema import StudyObjectiveConfig, SweepConfig
from harness.config.synth_path import is_made, recipe_of
from harness.config.validate import to_plain, to_section
from harness.runs.files import read_yaml
from harness.runs.record import RunRecord
from harness.search.around_earlier import Around, Tried
from harness.search.grid import grid_points
from harness.search.multiples import Multiples
from harness.search.parameter import Parameter
from harness.search.space import Space, parse_space
from harness.search.trial_cost import cost_bound
from harness.search.warm_start import Start

LENGTH_KEYS = ("trainer.max_tokens", "trainer.max_steps", "trainer.max_epochs", "trainer.batch_tokens")
LATEST = 64
"""So many trials' configurations are kept in memory."""
CHANGEABLE = ("budget", "launcher")
"""The keys of a sweep that may differ from launch to launch of one study."""
AT_LAUNCH = ("given", "directory", "launched", "start", "largest_trial_tokens", "most_trials", "confirms_itself")
"""What sweep.yaml tells of a launch, and what follows from the rest."""
EVALUATION_KEYS = ("data.max_evaluation_tokens", *(f"data.{section}." for section in evaluation_sections()))


@dataclass(frozen=True)
class Sweep:
    """A sweep file as it will be run."""

    name: str
    config: SweepConfig
    start: Start = field(default_factory=Start)
    """What the search begins with, as resolved at launch."""
    given: tuple[str, ...] = ()
    """The overrides of the command line, of all launches so far: the next one need not give them again."""

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

    def beside(self, name: str, config: SweepConfig, start: Start, given: tuple[str, ...] = ()) -> Sweep:
        """Another sweep over the same base: what was composed is shared."""
        other = Sweep(name, config, start, given)
        vars(other).update(base=self.base, _compositions=self._compositions, _latest=self._latest)
        return other

    def trial_config(self, params: dict[str, Any]) -> Config:
        """The configuration of a trial; not to be changed. Raises InputError where the values do not go together."""
        choices, values = self.space.split(params)
        key = (*choices, repr(sorted(values.items())))
        if key not in self._latest:
            loaded = self.composed(choices)
            self._latest[key] = (loaded.with_values(values) if values else loaded).config
            if len(self._latest) > LATEST:
                del self._latest[next(iter(self._latest))]
        return self._latest[key]

    @cached_property
    def _latest(self) -> dict[tuple[str, ...], Config]:
        """The last trials' configurations: they are often asked for again."""
        return {}

    def valid(self, point: dict[str, Any]) -> dict[str, Any]:
        """A point as a trial has it: values that have to be multiples of others, moved to the nearest (see `MultipleOfKeys`)."""
        return self._multiples.moved(point, partial(self._config_beside, self.space.split(point)[0]))

    @cached_property
    def _multiples(self) -> Multiples:
        return Multiples(self.space)

    def probes(self, parameter: Parameter, tried: Sequence[Any] | None = None) -> Iterator[dict[str, Any]]:
        """Points that try the ends of a range, every choice, or the values `tried`, where this parameter takes part; the others are as in
        the base, or the nearest to it that go with these."""
        conditions = self.space.conditions(parameter.key)
        for values in itertools.product(*conditions.values()):
            for value in parameter.extremes if tried is None else tried:
                point = {**dict(zip(conditions, values, strict=True)), parameter.key: value}
                yield self._multiples.with_dependents(point, partial(self._config_beside, self.space.split(point)[0]))

    def _config_beside(self, choices: Sequence[str]) -> Config:
        return self.composed(choices).config

    def points(self, count: int) -> list[dict[str, Any]]:
        """Points drawn at random, the same ones each time."""
        return [self.valid(self.space.drawn(random.Random(f"{self.config.search.seed}/{index}"))) for index in range(count)]

    def probes_beside(self, group: Parameter, parameter: Parameter) -> Iterator[dict[str, Any]]:
        """The same for each choice of an unconditional group, where the parameter takes part whatever the group."""
        if group.when or parameter.key == group.key or parameter.when:
            return
        for choice in group.choices:
            for params in self.probes(parameter):
                yield {group.key: choice, **params}

    def trial_tokens(self, params: dict[str, Any]) -> int:
        """Upper bound of what a trial costs, in tokens (see `cost_bound`); 0 where it has none."""
        return self._cost_bound(params) or 0

    def _cost_bound(self, params: dict[str, Any]) -> int | None:
        keys = {*(parameter.key for parameter in self._cost_parameters), *LENGTH_KEYS}
        choices, values = self.space.split({key: value for key, value in params.items() if key in keys})
        config = self.composed(choices).config
        length = {key.removeprefix("trainer."): value for key, value in values.items() if key in LENGTH_KEYS}
        config = dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, **length))
        if len(length) < len(values):
            # Of the data of runs that train nothing: these are few, and may as well be composed as a whole.
            config = self.trial_config({key: value for key, value in params.items() if key in keys})
        return cost_bound(config)

    @cached_property
    def has_unbounded_trials(self) -> bool:
        """Whether some trial's cost is not known before its data are looked at."""
        return any(self._cost_bound(point) is None for point in self._cost_extremes())

    @cached_property
    def largest_trial_tokens(self) -> int:
        """No trial of this space costs more."""
        return self.largest_tokens({})

    def largest_tokens(self, length: dict[str, int]) -> int:
        """No trial of this space costs more, where these keys say how long a run is."""
        return max(self.trial_tokens({**point, **length}) for point in self._cost_extremes())

    def _cost_extremes(self) -> Iterator[dict[str, Any]]:
        names = [parameter.key for parameter in self._cost_parameters]
        points = itertools.product(*(parameter.extremes for parameter in self._cost_parameters))
        for values in points:
            yield dict(zip(names, values, strict=True))

    @property
    def devices(self) -> int:
        """How many devices an attempt holds."""
        return ranks(self.base.config.trainer)

    @property
    def evaluations(self) -> int:
        """About how many evaluations the base's run has before its end."""
        trainer = self.base.config.trainer
        return self.largest_trial_tokens // trainer.batch_tokens // (trainer.evaluate_every_steps or sys.maxsize)

    @property
    def objectives(self) -> list[StudyObjectiveConfig]:
        """What is minimised or maximised; the first one ranks trials."""
        return [self.config.objective, *self.config.objective.also]

    @property
    def constraints(self) -> dict[str, dict[str, float]]:
        """{metric: {max: …} or {min: …} or both}"""
        return {metric: _limits(to_plain(bound)) for metric, bound in self.config.constraints.items()}

    @cached_property
    def grid(self) -> list[dict[str, Any]]:
        """The points of a grid search, in the order in which they are tried."""
        search = self.config.search
        found: dict[tuple[str, ...], dict[str, Any]] = {}
        for point in grid_points(self.space, values_per_range=search.grid_values, seed=search.seed):
            valid = self.valid(point)
            found.setdefault(tuple(map(repr, valid.items())), valid)  # several may have moved to the same
        return list(found.values())

    @property
    def most_trials(self) -> int | None:
        """After so many trials nothing is left to propose; None: never."""
        return len(self.start.points) + len(self.grid) if self.config.search.name == "grid" else None

    def pinned(self, number: int, *, ended: int, records: Callable[[], Sequence[RunRecord]]) -> dict[str, Any]:
        """The values that trial `number` is given rather than the sampler's choice, as Optuna's record has them (see `Start.pinned`).

        records: all trials so far.
        """
        search = self.config.search
        if self.start.around and number >= len(self.start.points) and ended < search.startup_trials:
            tried = self._tried(records())
            point = None if tried is None else Around(**self.start.around).next_point(self.space, tried, self.valid)
            if point is not None:
                return self.space.in_optuna(point)
        pinned = self.start.pinned(search, self.space, number, ended=ended)
        if pinned or search.name != "grid":
            return pinned
        return self.space.in_optuna(self.grid[number - len(self.start.points)])

    def _tried(self, records: Sequence[RunRecord]) -> Tried | None:
        """None where trials break a constraint: the best is not where the objective is."""
        sign = 1 if self.config.objective.direction == "minimize" else -1
        if any(record.standing == "infeasible" for record in records):
            return None
        return [
            (record.params, None if record.state != "complete" or (objective := record.result.objective) is None else sign * objective)
            for record in records
        ]

    @cached_property
    def _cost_parameters(self) -> list[Parameter]:
        """The parameters that decide what a trial costs: keys of the length, what bounds the evaluation sets of runs that train
        nothing, and groups with a choice that sets one of these."""
        evaluated = () if trains(self.base.config.trainer) else EVALUATION_KEYS
        return [
            parameter
            for parameter in self.space.parameters
            if parameter.key in LENGTH_KEYS
            or parameter.key.startswith(evaluated)
            or (parameter.is_group and any(self._length(probe) != self._length({}) for probe in self.probes(parameter)))
        ]

    def _length(self, params: dict[str, Any]) -> tuple[float | None, ...]:
        config = self.composed(self.space.split(params)[0]).config
        trainer = config.trainer
        evaluated = None if trains(trainer) else cost_bound(config)
        return trainer.max_tokens, trainer.max_steps, trainer.max_epochs, trainer.batch_tokens, evaluated

    def frozen(self) -> dict[str, Any]:
        """What sweep.yaml holds; sides of constraints and units of the budget that have no limit are left out."""
        plain = to_plain(self.config)
        plain["constraints"] = self.constraints
        plain["budget"] = _limits(plain["budget"])
        plain["objective"] = _terms(plain["objective"])
        derived = {
            "given": list(self.given),
            "start": dataclasses.asdict(self.start),
            "largest_trial_tokens": self.largest_trial_tokens,
            "most_trials": self.most_trials,
            "config": to_plain(self.base.config),
        }
        return {"name": self.name, **plain, **derived, **({"recipes": self.recipes} if self.recipes else {})}

    @cached_property
    def recipes(self) -> dict[str, str]:
        """Hashes of the recipes that make trials' data: a configuration names a recipe, its file may be edited."""
        sources = self.base.config.data.sources
        paths = [each(source.path)[0] for source in sources.values()]
        paths += [str(each(path)[0]) for name in sources for path in self._choices(f"data.sources.{name}.path")]
        made = sorted({recipe_of(path) for path in paths if is_made(path)})
        if not made:
            return {}
        from harness.synthesis.recipe import file_hash  # reads data, as few sweeps do

        return {word: file_hash(word) for word in made}

    def _choices(self, key: str) -> Sequence[Any]:
        return next((parameter.choices for parameter in self.space.parameters if parameter.key == key), ())


def _terms(objective: dict[str, Any]) -> dict[str, Any]:
    also = [_terms(further) for further in objective["also"]]
    return {**{key: value for key, value in objective.items() if key != "also"}, **({"also": also} if also else {})}


def _limits(values: dict[str, Any]) -> dict[str, Any]:
    return {name: limit for name, limit in values.items() if limit is not None}


def thaw(path: Path, *, goes_on: bool = True) -> Sweep:
    """The sweep of a study that was launched, from its sweep.yaml.

    goes_on: whether further runs are to be made of it. Raises InputError when its base resolves differently by now, or here; and where it
    goes on, when a recipe of its data was edited.
    """
    document = _of_this_version(read_yaml(path))
    frozen = document.pop("config")
    start = Start(**document.pop("start", {}))
    given, recipes = tuple(document.pop("given", ())), document.pop("recipes", {})
    _refuse_elsewhere(path.parent, document.pop("directory", None), frozen)
    for derived in ("launched", "largest_trial_tokens", "most_trials", "confirms_itself"):
        document.pop(derived, None)
    sweep = Sweep(document.pop("name"), to_section(SweepConfig, document), start, given)
    differences = list(_differences(frozen, to_plain(sweep.base.config)))
    if differences:
        raise InputError(f"{path}: the configuration files changed since this study was launched:\n" + "\n".join(differences))
    # One of an older harness has none.
    if goes_on and (changed := [word for word in recipes if sweep.recipes.get(word) != recipes[word]]):
        raise InputError(
            f"{path}: the recipe {', '.join(changed)} changed since this study was launched, and further trials would train on other data; "
            "valid: the recipe as it was, or the changed one under another name in another study (--name)"
        )
    return sweep


def _refuse_elsewhere(study: Path, launched_in: str | None, config: dict[str, Any]) -> None:
    """Raise InputError where relative paths of a study's configuration would mean other files than they did where it was launched."""
    if launched_in is None or Path(launched_in).resolve() == Path.cwd().resolve():
        return
    for key, path in paths_in(config):
        if not Path(path).is_absolute() and (Path(launched_in) / path).exists():
            root = study.resolve().parent
            runs = "" if root == Path(launched_in).resolve() / "runs" else f"HARNESS_RUNS={root} "
            raise InputError(
                f"{study}: its {key}={path} is relative to {launched_in}, where it was launched; go on there: cd {launched_in} && "
                f"{runs}harness resume {study.name}"
            )


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Nested values, those of `above` where both have a key."""
    both = {key: _merged(below[key], value) for key, value in above.items() if isinstance(value, dict) and isinstance(below.get(key), dict)}
    return {**below, **above, **both}


def differences(frozen: dict[str, Any], sweep: Sweep) -> list[str]:
    """The keys in which a launched study differs from a sweep; budget and launcher may change."""
    changeable = (*CHANGEABLE, *AT_LAUNCH, *(() if "recipes" in frozen else ("recipes",)))  # an older harness froze none
    now = {key: value for key, value in sweep.frozen().items() if key not in changeable}
    before = {key: value for key, value in _of_this_version(frozen).items() if key not in changeable}
    return list(_differences(before, now))


def _of_this_version(frozen: dict[str, Any]) -> dict[str, Any]:
    """sweep.yaml of an older harness: without keys that nothing reads any more, and with those that came since, at their defaults."""
    usual = defaults(SweepConfig)
    stopping = {key: value for key, value in frozen["stopping"].items() if key != "p_threshold"}
    return {
        **frozen,
        "search": {**usual["search"], "confirm": False, **frozen["search"]},
        "stopping": {**usual["stopping"], **stopping},
        "config": _merged(defaults(Config), frozen["config"]),
    }


def _differences(before: Any, now: Any, key: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for name in [*before, *(name for name in now if name not in before)]:
            yield from _differences(before.get(name), now.get(name), f"{key}.{name}" if key else str(name))
    elif before != now:
        yield f"  {key}: {_shown(before)} at launch, {_shown(now)} now"


def _shown(value: Any) -> str:
    return "absent" if value is None else str(value)
