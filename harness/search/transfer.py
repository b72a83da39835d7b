"""What in a recipe may not transfer to another configuration, and what earlier recipes predict for it.

Nothing is changed: a recipe's values are used as they stand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.config.checks.trainer import token_bound, trains
from harness.config.errors import InputError
from harness.config.length import parse_length
from harness.config.load import Loaded
from harness.config.nested import flat
from harness.config.overrides import COMMAND_LINE
from harness.config.schema import Config
from harness.config.user_yaml import read_mapping
from harness.config.validate import to_plain
from harness.runs.bundle import Bundle, BundleDirectory, bundles
from harness.search.scaling import UNKNOWN_SPREAD, Observation, fit_power_law, model_size, observe_recipe

SHAPE = ("model.hidden_size", "model.layers", "model.heads", "model.family", "model.intermediate_size", "model.kv_heads")
SAME_LENGTH = 1.5
"""Runs whose lengths differ by less than this factor count as equally long."""
LORA_FACTOR = 10
"""The best rate of low-rank adapters is about this many times that of full training (see adapter.name)."""


def transfer_notes(name: str, directory: BundleDirectory, used: Loaded) -> list[str]:
    """Notes for a run `used` that starts from the recipe `name`, a sentence each; none where nothing differs.

    Raises InputError for a damaged bundle.
    """
    recipe, config = directory.read(), used.config
    if not trains(config.trainer):
        return []
    there = dict(flat(read_mapping(directory.config, holds="the resolved configuration of a recipe")))
    here = dict(flat(to_plain(config)))
    notes = list(_notes(recipe, there, here, config))
    # Who gives a rate needs no advice on the recipe's.
    if notes and used.composed.origins.get("optim.lr") != COMMAND_LINE:
        notes += _predicted(recipe, config)
    shape = used.composed.groups.get("model")
    if config.model.path is not None and shape != recipe.groups.get("model") and used.composed.origins.get("model.path") != COMMAND_LINE:
        notes.insert(0, f"model={shape} is not read, since the recipe gives model.path={config.model.path}: give model.path, or null")
    return [f"best/{name}: {note}" for note in notes]


def _notes(recipe: Bundle, there: Mapping[str, Any], here: Mapping[str, Any], config: Config) -> Iterator[str]:
    yield from _other_model(recipe, there, here, config)
    before, now = there.get("adapter.name"), config.adapter.name
    if before != now:
        times = f"low-rank updates commonly want about {LORA_FACTOR} times the rate of full training"
        yield f"found with adapter={before}, used with adapter={now}: its learning rate does not carry over; {times}"
    elif now == "lora" and any(there.get(key) != here.get(key) for key in ("adapter.rank", "adapter.alpha", "adapter.variant")):
        yield "rank, alpha or variant of the adapter differ: they scale its updates, and with them the best rate"
    if there.get("optim.name") != config.optim.name:
        names = f"found with optim={there.get('optim.name')}, used with optim={config.optim.name}"
        yield f"{names}: rates of different optimizers do not compare"
    batch = there.get("trainer.batch_tokens")
    if isinstance(batch, int) and batch != config.trainer.batch_tokens:
        yield (
            f"found at trainer.batch_tokens={batch}, used at {config.trainer.batch_tokens}: the best rate moves with the batch "
            "(towards higher rates for larger ones)"
        )
    yield from _other_length(recipe, config)
    if there.get("objective.name") != config.objective.name:
        yield f"found for objective={there.get('objective.name')}, used for objective={config.objective.name}: another task"


def _other_model(recipe: Bundle, there: Mapping[str, Any], here: Mapping[str, Any], config: Config) -> Iterator[str]:
    before, now = recipe.model.get("size"), _size_of(config)
    same = there.get("model.path") is None and config.model.path is None and all(there.get(key) == here.get(key) for key in SHAPE)
    if same or (before is not None and before == now):
        return
    if before is None or now is None:
        if there.get("model.path") != here.get("model.path") and "model.path" not in recipe.to_give:
            yield f"found on {recipe.model.get('name')}, used on another model: its learning rate may not carry over"
        return
    wider = "narrower" if now < before else "wider or deeper"
    yield (
        f"found on {before:,} parameters (without embeddings), used on {now:,}: the best rate of a {wider} model is commonly "
        f"{'higher' if now < before else 'lower'}"
    )


def _size_of(config: Config) -> int | None:
    try:
        return model_size(config.model)
    except InputError:
        return None  # a hub's model, whose shape is not on this disk


def _other_length(recipe: Bundle, config: Config) -> Iterator[str]:
    before, now = recipe.tokens.length, token_bound(config)
    if not before or max(before, now) / min(before, now) < SAME_LENGTH:
        return
    fixed = parse_length("schedule.warmup", config.schedule.warmup).unit != "fraction"
    yield (
        f"found over {before:,} tokens, used over {now:,}: the best rate moves with the length"
        + (f", and schedule.warmup={config.schedule.warmup} does not grow with it" if fixed else "; its schedule stretches, in fractions")
    )


def _predicted(recipe: Bundle, config: Config) -> list[str]:
    """The rate that a power law over recipes of the same task predicts here, or how to come by one."""
    size = _size_of(config)
    seen = [one for name, directory in bundles() if (one := _observed(name, directory, recipe, config)) is not None]
    sizes, lengths = {one.size for one in seen}, {one.tokens for one in seen}
    if size is None or (len(sizes) < 2 and len(lengths) < 2):
        return [
            "no recipe here shows how its rate scales (that takes two sizes or lengths); "
            f"harness sweep SWEEP search.warm_start=best/{recipe.name} searches around it"
        ]
    law = fit_power_law(seen, [one.rate for one in seen])
    rate = law.at(size, token_bound(config))
    spread = law.spread or UNKNOWN_SPREAD
    return [
        f"a power law over {len(seen)} recipes ({', '.join(one.study for one in seen)}) says optim.lr={rate:.3g} here, within a factor of "
        f"{spread:.2g}{'' if law.spread else ' at a guess'}, instead of {config.optim.lr:.3g}"
    ]


def _observed(name: str, directory: BundleDirectory, recipe: Bundle, config: Config) -> Observation | None:
    """A recipe of the same task and adapter as the run, if its rate can be compared."""
    try:
        other = directory.read()
        kinds = {"objective": config.objective.name, "adapter": config.adapter.name}
        if other.task != kinds or recipe.metric is None or other.groups.get("optim") != recipe.groups.get("optim"):
            return None
        return observe_recipe(directory, recipe.metric)
    except InputError:
        return None  # damaged, or of another metric: nothing to learn from it
