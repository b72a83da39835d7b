"""The data set that is made of what teachers wrote: its rows, those that were dropped, its card, and a page."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from harness import __version__
from harness.config.locations import in_home
from harness.config.validate import to_plain
from harness.merging.folder import licence_of
from harness.runs.files import replacing, write_json, write_output, write_text
from harness.synthesis.card import data_card
from harness.synthesis.card_figures import figures
from harness.synthesis.directory import SynthDirectory
from harness.synthesis.ledger import Ledger
from harness.synthesis.plan import Draft, Plan
from harness.synthesis.seeds import hash_of
from harness.synthesis.stages import Made, make_data


def drafts_of(directory: SynthDirectory, plan: Plan) -> list[Draft]:
    """All rows that are written, in the order of the plan."""
    return [draft for shard in range(plan.shards) for draft in plan.rows(shard, directory.records(shard))]


def write_data(directory: SynthDirectory, plan: Plan, out: SynthDirectory) -> Made:
    """Make the data set of what is written: rejected.jsonl, data.jsonl, its card, and manifest.json, which is the last, of the directory
    `out`."""
    config = plan.recipe.config
    made = make_data(drafts_of(directory, plan), config)
    ledger = directory.ledger()
    _write_lines(out.rejected, [one.to_json() for one in made.rejected])
    manifest = {
        "recipe": plan.recipe.name,
        "seeds": plan.seeds.fingerprints(),
        "steps": {name: {"key": key, **_step(plan, name)} for name, key in plan.keys.items()},
        "funnel": made.funnel,
        "rejected": dict(sorted(Counter(one.rule for one in made.rejected).items())),
        "tokens": {
            "prompt": sum(one.prompt for one in ledger.shards.values()),
            "generated": sum(one.generated for one in ledger.shards.values()),
            "lost": sum(one.lost for one in ledger.shards.values()),
        },
        "figures": figures(made, config),
        "rows": len(made.data),
        "sha256": _write_lines(out.data, made.data),
        "version": __version__,
        "made_of": _made_of(plan, ledger),
    }
    write_text(out.card, data_card(manifest, made, config))
    write_json(out.manifest, manifest)
    return made


def is_made(directory: SynthDirectory, plan: Plan) -> bool:
    """Whether the data set there is the one that `write_data` would make."""
    return directory.data.is_file() and directory.made().get("made_of") == _made_of(plan, directory.ledger())


def _made_of(plan: Plan, ledger: Ledger) -> str:
    """A hash of the recipe, and of what was written by it."""
    written = {name: [one.prompt, one.generated] for name, one in sorted(ledger.shards.items())}
    return hash_of([to_plain(plan.recipe.config), plan.seeds.fingerprints(), plan.keys, written])


def write_data_page(directory: SynthDirectory, plan: Plan, made: Made, path: Path) -> None:
    """Write a page about a data set that was made, see `write_data`; it takes the place of a file in one step."""
    from harness.report.data_page import data_page

    write_output(path, data_page(directory.made(), made, plan.recipe.config))


def _step(plan: Plan, name: str) -> dict[str, Any]:
    """Who answers a step, and how it is sampled: what the hashes in a row's provenance stand for."""
    teacher = plan.recipe.teacher_of(name)
    config, step = plan.recipe.config.teachers[teacher], plan.recipe.config.steps[name]
    return {
        "teacher": teacher,
        "teacher_hash": plan.teachers[teacher],
        "model": config.model,
        "endpoint": config.endpoint,
        "licence": None if config.endpoint is not None else licence_of(in_home(config.model)),
        **({} if step.nll is not None else {"sampling": to_plain(plan.recipe.sampling_of(name)), "max_new_tokens": step.max_new_tokens}),
    }


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> str:
    """The sha256 of what is written."""
    content = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows).encode()
    with replacing(path) as stream:
        stream.write(content)
    return hashlib.sha256(content).hexdigest()
