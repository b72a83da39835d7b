"""Data that are made when they are needed: sources with data.sources.<name>.path=synth:RECIPE.

    <cache>/synth/<key>/               a pool: what teachers wrote, and what it cost (see `harness.synthesis.directory`)
    <cache>/synth/<key>/made/<key>/    what filters and selection made of it: data.jsonl, rejected.jsonl, manifest.json

The first key is of all that the texts depend on, the second one of the rest of the recipe. So runs that differ in a filter share one pool.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from harness.config.errors import InputError, wrong_value
from harness.config.nested import flat
from harness.config.overrides import hydra_text
from harness.config.schema import Config, each
from harness.config.synth_path import made_sources, recipe_of
from harness.config.validate import to_plain
from harness.runs.cache import default_cache_dir
from harness.synthesis.directory import SynthDirectory
from harness.synthesis.endpoint import EndpointDownError
from harness.synthesis.plan import Plan
from harness.synthesis.recipe import Recipe, load_recipe
from harness.synthesis.seeds import hash_of
from harness.synthesis.status import no_room
from harness.work.synth import SynthStoppedError, begin_plan, draws_of, fill, retries_of
from harness.work.synth_data import write_data
from harness.work.synth_teacher import Teachers

log = logging.getLogger("harness")
AFTER_THE_TEXTS = ("filters", "dedup", "decontaminate", "select", "emit")


@dataclass(frozen=True)
class Made:
    """A configuration whose sources are all files."""

    config: Config
    spent: int
    """Tokens of teachers that this process spent on them."""
    pools: dict[str, int]
    """Tokens of teachers that what they are made of has cost, whoever paid, by pool."""


def with_made_data(config: Config) -> Made:
    """The configuration with the files of the data that its recipes make, which are made now where nobody made them before.

    Raises InputError, naming the source, for a recipe that cannot be used, and where its budget has no room for all of its rows.
    """
    sources, spent, pools = dict(config.data.sources), 0, dict[str, int]()
    for name in made_sources(config.data):
        source, key = sources[name], f"data.sources.{name}"
        try:
            recipe = load_recipe(recipe_of(each(source.path)[0]), [f"{inner}={hydra_text(value)}" for inner, value in flat(source.synth)])
            file, pool, cost = _made(recipe, default_cache_dir(config.data.cache_dir), key)
        except InputError as error:
            raise InputError("\n".join(line if line.startswith(key) else f"{key}: {line}" for line in str(error).splitlines())) from None
        sources[name] = replace(source, path=str(file), synth={})
        spent += cost
        pools[pool.name] = pool.ledger().used
    return Made(replace(config, data=replace(config.data, sources=sources)), spent, pools)


def _made(recipe: Recipe, cache: Path, key: str) -> tuple[Path, SynthDirectory, int]:
    """The data set's file, its pool, and what that cost now."""
    teachers = Teachers(recipe)
    plan = Plan(recipe, recipe.read_seeds(), teachers.fingerprints())
    kept = to_plain(recipe.config)
    pool = SynthDirectory(cache / "synth" / _pool_key(plan))
    rest = [kept[name] for name in AFTER_THE_TEXTS]
    # Scores and how texts are parsed: by these rows are kept, too.
    made = SynthDirectory(pool.path / "made" / hash_of([rest, list(kept["steps"].items())]))
    spent = 0

    def progress(there: int, asks: int, tokens: int) -> None:
        nonlocal spent
        spent = tokens

    if not pool.ledger().is_whole(plan.shards):
        log.info("%s: %s makes %s texts", key, recipe.name, f"{plan.asks:,}")
        try:
            fill(begin_plan(pool, plan, teachers), workers=recipe.config.workers, progress=progress)
        except SynthStoppedError as error:
            raise InputError(f"{recipe.name} was {error}; valid: the same command again") from None
        except EndpointDownError as error:
            raise InputError(f"{error}; valid: the same command again, when it answers") from None
        refused = pool.ledger().refused
        if refused is not None:
            problem = f"{no_room(refused)}; valid: a higher one, since all rows are to be made"
            raise wrong_value(f"{key}.synth.budget.tokens", recipe.config.budget.tokens, problem)
    if not made.manifest.is_file():
        write_data(pool, plan, made)
    if not made.data.stat().st_size:
        raise InputError(f"no row is left; {made.rejected} says why")
    return made.data, pool, spent


def _pool_key(plan: Plan) -> str:
    """Of all that the texts depend on. Draws are of it where there are several, so that pools of one each keep their keys."""
    config = plan.recipe.config
    kept = to_plain(config)
    how_many = [config.rows, config.seed, config.shard_rows, retries_of(kept), *filter(None, [draws_of(kept)])]
    return hash_of([plan.keys, plan.seeds.fingerprints(), *how_many])
