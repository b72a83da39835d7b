"""The trials of a steering study that do not steer: what steering has to beat, tried in the same study.

Doing nothing and a prompt come first. Random directions come last, in the place of the best trial until then: a direction says something
only if it does more than another one of the same length in the same place. All others steer, and are proposed by what such trials found.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.config.checks.model import layers_of
from harness.config.documents import as_mapping, read_json
from harness.config.errors import InputError, wrong_value
from harness.config.locations import in_home
from harness.config.schema import Config
from harness.config.steering_controls import DRAW_KEY, KEY, SETTINGS, VECTORS
from harness.config.sweep_schema import SweepConfig
from harness.merging.safetensors_files import WeightFile
from harness.runs.record import Objective, RunRecord
from harness.search.parameter import Parameter
from harness.search.space import Space

BASELINES = "baselines"
BLOCK_KEY, WIDTH_KEY, METHOD_KEY = "adapter.block", "adapter.width", "adapter.method"
DRAWS = 3
"""Random directions: one alone may be lucky."""


@dataclass(frozen=True)
class Proposal:
    """What a trial is given, as Optuna's record has it, and what the sampler may look at for the rest."""

    pinned: dict[str, Any]
    """With these, all others are drawn at random."""
    given: dict[str, Any] = field(default_factory=dict)
    """Beside these, the sampler has a free hand."""
    learned_from: set[int] | None = None
    """Numbers of trials; None: all."""


def first_controls(space: Space, where: str) -> Iterator[dict[str, Any]]:
    """The points of doing nothing and of a prompt. Raises InputError for a space that has no controls."""
    choices = _choices(space)
    if None not in choices or len(choices) < 2:
        valid = f"space.{KEY}={{choices: [null, nothing, prompt, random]}}"
        raise wrong_value(where, BASELINES, f"of steering these are choices of {KEY}, null among them; valid: {valid}")
    yield from ({KEY: choice} for choice in choices if choice in ("nothing", "prompt"))


def check_controls(config: SweepConfig, space: Space, trials: int | None) -> None:
    """Raise InputError for a steering study whose random directions would not be tried. trials: as of `around_controls`."""
    choices, given = _choices(space), config.budget.trials
    if not _tries_controls(config, space) or "random" not in choices:
        return
    draws = next((item.choices for item in space.parameters if item.key == DRAW_KEY), ())
    if not {*range(DRAWS)} <= {*draws}:
        valid = f"{{choices: {[*range(DRAWS)]}, when: {{{KEY}: random}}}}"
        raise InputError(f"space.{DRAW_KEY}: {DRAWS} random directions are tried; valid: {valid}")
    fewest = len(choices) - 1 + DRAWS
    if trials is None or trials < fewest:
        problem = f"the last {DRAWS} trials of a steering study are random directions in the place of the best; valid: at least {fewest}"
        held = "" if given is None or given == trials else f" beside what search.confirm holds back ({given - (trials or 0)} of these)"
        raise wrong_value("budget.trials", "null" if given is None else given, f"{problem}{held}")


def check_blocks(config: Config, space: Space) -> None:
    """Raise InputError for a study with blocks for which its vector file has no direction, as one that was trained has none."""
    searched = [parameter.key for parameter in space.parameters if parameter.key in (BLOCK_KEY, WIDTH_KEY)]
    blocks, vector = layers_of(config.model), config.adapter.vector
    if vector is None or blocks is None or not searched or not (path := in_home(vector) / VECTORS).is_file():
        return
    names = (name.partition(".")[2] for name in WeightFile(path).tensors())
    held = {int(name) for name in names if name.isdecimal()}
    reach = _reach(config, space, in_home(vector), blocks)
    missing = {block for reached in reach.values() for block in reached} - held
    if not missing:
        return
    what = f"it has no direction for {_named(missing)}, which {' and '.join(searched)} may ask for, but for {_named(held)}"
    valid = f"{' '.join(f'~space.{key}' for key in searched)} beside it"
    fitting = sorted(block for block, reached in reach.items() if held.issuperset(reached))
    if fitting and BLOCK_KEY in searched:
        valid = f"{valid}, or {BLOCK_KEY} among {', '.join(map(str, fitting))}"
    raise wrong_value("adapter.vector", vector, f"{what}; valid: {valid}")


def _reach(config: Config, space: Space, directory: Path, blocks: int) -> dict[int, range]:
    """By the block in the middle: which blocks trials may steer along directions of a file. Random ones it need not hold."""
    adapter, found = config.adapter, dict[int, range]()
    for point in _combinations(space, (KEY, METHOD_KEY, BLOCK_KEY, WIDTH_KEY)):
        if "random" in (point.get(KEY, adapter.control), point.get(METHOD_KEY, adapter.method)):
            continue
        given, width = point.get(BLOCK_KEY, adapter.block), point.get(WIDTH_KEY, adapter.width)
        centre = _strongest(directory, blocks) if given is None else given
        if centre is not None and centre < blocks:
            reached = range(max(0, centre - width), min(blocks, centre + width + 1))
            found[centre] = max(reached, found.get(centre, reached), key=len)
    return found


def _combinations(space: Space, keys: Collection[str]) -> list[dict[str, Any]]:
    """All values that these parameters, and those they depend on, may have together."""
    needed = {item.key for item in space.parameters if item.key in keys}
    needed |= {other for key in needed for other in space.conditions(key)}
    points: list[dict[str, Any]] = [{}]
    for parameter in space.parameters:
        if parameter.key in needed:
            values = _values(parameter)
            points = [more for point in points for more in _with_each(parameter, values, point)]
    return points


def _with_each(parameter: Parameter, values: Sequence[Any], point: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**point, parameter.key: value} for value in values] if parameter.is_active(point) else [point]


def _values(parameter: Parameter) -> Sequence[Any]:
    """The choices, or the integers of a range."""
    if parameter.choices:
        return parameter.choices
    low, high = map(int, parameter.bounds)
    return sorted({int(parameter.nearest(value)) for value in range(low, high + 1)})


def _strongest(directory: Path, blocks: int) -> int | None:
    """The block that a file is steered about where none is given; None of a file that is refused when it is read."""
    if not (path := directory / SETTINGS).is_file():
        return None
    own = as_mapping(as_mapping(read_json(path), path).get("coefficients") or {}, path)
    numbers = {int(block): value for block, value in own.items() if str(block).isdecimal() and isinstance(value, int | float)}
    return max(numbers, key=lambda block: abs(numbers[block])) if numbers else blocks // 2


def _named(blocks: Collection[int]) -> str:
    return f"block{'s' if len(blocks) > 1 else ''} {', '.join(map(str, sorted(blocks)))}"


def prompt_advice(config: Config, space: Space) -> Iterator[str]:
    """What to think of where a prompt is tried that no text is written after."""
    written = config.data.generation
    is_tried = "prompt" in (*_choices(space), config.adapter.control) and config.adapter.name == "steering"
    keys = {f"data.generation.{name}.instruction" for name, one in written.items()}
    if (
        not is_tried
        or not written
        or any(one.instruction for one in written.values())
        or any(item.key in keys for item in space.parameters)
    ):
        return
    sets = ", ".join(f"data.generation.{name}" for name in written)
    yield (
        f"adapter.control=prompt: nothing asks for the trait where the model writes ({sets}): its texts are those of doing nothing; "
        f"where they are to show the trait, give data.generation.{next(iter(written))}.instruction=TEXT"
    )


def around_controls(
    pinned: dict[str, Any], config: SweepConfig, space: Space, number: int, trials: int | None, records: Callable[[], list[RunRecord]]
) -> Proposal:
    """How trial `number` comes about. pinned: what a warm start gives it; trials: how many the search has before anything is confirmed;
    records: gives all trials so far."""
    if not _tries_controls(config, space) or KEY in pinned:
        return Proposal(pinned)
    steers = space.in_optuna({KEY: None})
    draw = number - (trials or 0) + DRAWS
    if "random" in _choices(space) and 0 <= draw < DRAWS:
        objective = Objective(config.objective.metric, config.objective.direction)
        return Proposal(space.in_optuna(_active(space, {**_best_place(records(), objective), KEY: "random", DRAW_KEY: draw})))
    if pinned:
        return Proposal({**pinned, **steers})
    return Proposal({}, steers, {run.number for run in records() if run.number is not None and _steers(run)})


def _choices(space: Space) -> tuple[Any, ...]:
    return next((parameter.choices for parameter in space.parameters if parameter.key == KEY), ())


def _tries_controls(config: SweepConfig, space: Space) -> bool:
    entries = config.search.warm_start if isinstance(config.search.warm_start, list) else [config.search.warm_start]
    return BASELINES in entries and None in _choices(space)


def _steers(run: RunRecord) -> bool:
    return run.params.get(KEY, "") is None


def _best_place(records: Sequence[RunRecord], objective: Objective) -> dict[str, Any]:
    """The values of the best trial that steers within the constraints; {} where there is none: then they are drawn."""
    found = [
        (objective.sign * run.result.objective, run.number or 0, run.params)
        for run in records
        if _steers(run) and run.state == "complete" and run.result.objective is not None and run.result.feasible is not False
    ]
    return min(found, key=lambda place: place[:2])[2] if found else {}


def _active(space: Space, values: dict[str, Any]) -> dict[str, Any]:
    """Those of the values that take part beside the others."""
    found: dict[str, Any] = {}
    for parameter in space.parameters:
        if parameter.key in values and parameter.is_active(found):
            found[parameter.key] = values[parameter.key]
    return found
