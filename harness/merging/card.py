"""The model card of a merge: of what, how, and how to make it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from harness.config.private import Scrub
from harness.config.remote_path import hub_name
from harness.merging.plan import Plan


def merge_card(plan: Plan, *, adapter: str | None = None, scores: Sequence[str] = ()) -> str:
    """Markdown with front matter as hubs read it; it goes to a hub, so nothing private is in it. adapter: what is said of one that was
    written in place of a model. scores: sentences on how good it is."""
    scrub, recipe = Scrub.of_this_machine(), plan.recipe
    used = dict.fromkeys(part.model for one in recipe.slices for part in (*([one.base] if one.base else []), *one.parts))
    sources = {name: plan.sources[name] for name in (*used, *(name for name in (recipe.frame,) if name not in used))}
    licences = sorted({source.licence or "unknown" for source in sources.values()})
    front: dict[str, Any] = {"library_name": "transformers" if adapter is None else "peft", "tags": ["merge"]}
    public = [word for name in sources if hub_name(word := recipe.words[name]) is not None and scrub.path(word) == word]
    if public:
        front["base_model"] = public
    if len(licences) == 1 and licences != ["unknown"]:
        front["license"] = licences[0]
    roles = {recipe.frame: "configuration and tokenizer"} | ({recipe.base: "base"} if recipe.base else {})
    rows = "\n".join(
        f"| {scrub.text(name)} | {roles.get(name, 'ingredient')} | `{scrub.path(recipe.words[name])}` | {source.licence or 'not told'} | "
        f"`{source.fingerprint[:16]}` |"
        for name, source in sources.items()
    )
    notes = "".join(f"- {scrub.text(note)}\n" for note in plan.notes)
    measured = "".join(f"- {scrub.text(line)}\n" for line in scores)
    if measured:
        notes += f"\n## How good it is\n\n{measured}"
    mixed = "\nThe licences of its ingredients differ: all of them hold for what is made of them.\n" if len(licences) > 1 else ""
    # mergekit's words have no place for what the models were.
    known = {"fingerprints": {name: source.fingerprint for name, source in sources.items()}} if "model" in recipe.written else {}
    written = yaml.safe_dump(scrub.value({**recipe.written, **known}), sort_keys=False, allow_unicode=True)
    return f"""---
{yaml.safe_dump(front, sort_keys=False)}---

# A merge by {recipe.method}

Made by harness of {len(sources)} models; nothing was trained.{"" if adapter is None else f" {adapter}"}

| name | part | model | licence | fingerprint |
|---|---|---|---|---|
{rows}
{mixed}
{notes}
The recipe, which `harness merge OUT FILE.yaml{"" if adapter is None else " --adapter"}` takes again:

```yaml
{written}```
"""
