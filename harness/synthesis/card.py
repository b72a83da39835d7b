"""The data card of a data set: what it is, how it was made, what was dropped, and what it looks like."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from harness.config.private import Scrub
from harness.config.synth_schema import SynthConfig
from harness.config.validate import to_plain
from harness.synthesis.card_figures import evenly
from harness.synthesis.emit import answer_of, prompt_of, shown_text
from harness.synthesis.select import RowPair
from harness.synthesis.stages import Made

EXAMPLES, EXAMPLE_CHARACTERS = 5, 600
SIZES = (("n<1K", 1_000), ("1K<n<10K", 10_000), ("10K<n<100K", 100_000), ("100K<n<1M", 1_000_000), ("1M<n<10M", 10_000_000))
"""As hubs name them."""


def data_card(manifest: Mapping[str, Any], made: Made, config: SynthConfig) -> str:
    """Markdown with front matter as hubs read it; it goes to a hub, so nothing private is in it. manifest: what manifest.json holds."""
    scrub = Scrub.of_this_machine()
    licence = config.emit.licence
    size = next((name for name, most in SIZES if len(made.data) < most), "n>10M")
    front = {**({"license": licence} if licence else {}), "tags": ["synthetic"], "size_categories": [size]}
    figures, tokens = manifest["figures"], manifest["tokens"]
    spent = tokens["prompt"] + tokens["generated"] + tokens["lost"]
    each = f", {spent / len(made.data):,.0f} for each row that was kept" if made.data else ""
    lost = f", {tokens['lost']:,} were lost with texts that were broken off" if tokens["lost"] else ""
    told = f"{licence}, as whoever made it says" if licence else "not told by whoever made it"
    steps = [
        [name, *(f"`{one}`" for one in (step["key"], scrub.path(step["model"]), step["teacher_hash"])), step["licence"] or "not told"]
        for name, step in manifest["steps"].items()
    ]
    recipe = yaml.safe_dump(scrub.value(_without_defaults(config)), sort_keys=False, allow_unicode=True)
    sections = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n",
        f"# {scrub.text(manifest['recipe'])}\n",
        f"Made by harness {manifest['version']}: {len(made.data):,} rows ({config.emit.format}) that language models wrote. Nobody has "
        "read all of them.\n",
        f"Licence: {told}. What the teachers' licences and those of the seeds ask for holds, too.\n",
        _table(["step", "its hash", "teacher", "its hash", "licence"], steps),
        "## From draws to rows\n",
        _table(["stage", "rows left"], [[name, f"{count:,}"] for name, count in manifest["funnel"].items()]),
        _table(["dropped by", "rows"], [[f"`{rule}`", f"{count:,}"] for rule, count in manifest["rejected"].items()]),
        f"Teachers read {tokens['prompt']:,} tokens and wrote {tokens['generated']:,}{lost}{each}.\n",
        *_figures(figures, config, scrub),
        "## Examples\n",
        *_examples(made, config),
        f"## The recipe\n\nSeeds, by fingerprint: {_listed(manifest['seeds'])}.\n\n```yaml\n{recipe}```\n",
    ]
    return "\n".join(section for section in sections if section)


def _figures(figures: Mapping[str, Any], config: SynthConfig, scrub: Scrub) -> Iterable[str]:
    if not figures:
        return
    words, diversity = figures["words"], figures["diversity"]
    yield "## Lengths and diversity\n"
    yield (
        f"Half of the texts have {words['quartile_1']:,.0f} to {words['quartile_3']:,.0f} words (median {words['median']:,.0f}, shortest "
        f"{words['min']:,}, longest {words['max']:,}).\n"
    )
    yield _table(list(diversity), [[f"{value:.3f}" if isinstance(value, float) else f"{value:,}" for value in diversity.values()]])
    if figures["overlap"]:
        yield "## Evaluation sets\n"
        yield _table(
            ["set", "rows in it", f"dropped: {config.decontaminate.ngram} words in common", "kept: 8 words in common"],
            [
                [f"`{scrub.path(path)}`", f"{one['rows']:,}", f"{one['dropped']:,}", f"{one['kept_with_8_words']:,}"]
                for path, one in figures["overlap"].items()
            ],
        )


def _examples(made: Made, config: SynthConfig) -> Iterable[str]:
    for one in evenly(made.selected, EXAMPLES):
        first = one.chosen if isinstance(one, RowPair) else one
        parts = {} if config.emit.format == "text" else {"prompt": prompt_of(first, config)}
        if isinstance(one, RowPair):
            parts |= {"chosen": answer_of(one.chosen, config), "rejected": answer_of(one.rejected, config)}
        else:
            parts["text" if config.emit.format == "text" else "answer"] = shown_text(first, config)
        for name, text in parts.items():
            yield f"{name}:\n\n{fenced(text)}"


def fenced(text: str) -> str:
    """A text as it is, its beginning: a fence that nothing in it ends, and no control character but line breaks."""
    shown = text if len(text) <= EXAMPLE_CHARACTERS else f"{text[:EXAMPLE_CHARACTERS]} …"
    plain = "".join(one if one in "\n\t" or one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in shown)
    fence = "`" * max(3, 1 + max((len(found) for found in re.findall(r"`+", plain)), default=0))
    return f"{fence}text\n{plain}\n{fence}\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; "" without rows."""
    if not rows:
        return ""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (head, ["---"] * len(head), *rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _listed(fingerprints: Mapping[str, str]) -> str:
    return ", ".join(f"{name} `{fingerprint[:16]}`" for name, fingerprint in fingerprints.items())


def _without_defaults(config: SynthConfig) -> dict[str, Any]:
    """The recipe's keys that say something else than the defaults do."""
    defaults = to_plain(SynthConfig(seeds={}, teachers={}, steps={}))
    return {key: value for key, value in to_plain(config).items() if value != defaults[key]}
