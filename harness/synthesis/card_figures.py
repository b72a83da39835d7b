"""What a data card says in figures of the rows that were kept."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.config.synth_schema import SynthConfig
from harness.evaluation.text_statistics import distinct, self_bleu, zlib_ratio
from harness.synthesis.decontaminate import overlap_of
from harness.synthesis.emit import answer_of
from harness.synthesis.evaluation_texts import evaluation_texts, read_evaluation_rows
from harness.synthesis.row import Row
from harness.synthesis.select import RowPair
from harness.synthesis.stages import Made

COMPARED_TEXTS, COMPARED_WORDS = 500, 64
"""Of how many texts, and of how many words of each, diversity is counted: all of its measures grow or fall with both."""
OVERLAP_WORDS = 8
"""Fewer than decontaminate.ngram: what is still alike in what was kept."""


def figures(made: Made, config: SynthConfig) -> dict[str, Any]:
    """Lengths, diversity and overlap of the rows that were kept, as JSON has them; {} where none was. Raises InputError for evaluation
    files that cannot be read."""
    rows = kept_rows(made)
    if not rows:
        return {}
    texts = [answer_of(row, config) for row in rows]
    return {"words": _quartiles(texts), "diversity": _diversity(texts), "overlap": _overlap(rows, made, config)}


def kept_rows(made: Made) -> list[Row]:
    """The rows that became data; of pairs both."""
    return [row for one in made.selected for row in (one if isinstance(one, RowPair) else (one,))]


def evenly(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of them, evenly spaced, the first among them."""
    return [items[index * len(items) // most] for index in range(most)] if len(items) > most else list(items)


def _quartiles(texts: Sequence[str]) -> dict[str, float]:
    """Of the words of a text."""
    lengths = sorted(len(text.split()) for text in texts)
    if len(lengths) == 1:
        lengths *= 2
    low, middle, high = statistics.quantiles(lengths, n=4, method="inclusive")
    return {"min": lengths[0], "quartile_1": low, "median": middle, "quartile_3": high, "max": lengths[-1]}


def _diversity(texts: Sequence[str]) -> dict[str, float]:
    """How different the texts are: distinct-n (arXiv 1510.03055) and self-BLEU (arXiv 1802.01886) of words, and how far zlib presses
    them."""
    chosen = evenly(texts, COMPARED_TEXTS)
    words = [text.split()[:COMPARED_WORDS] for text in chosen]
    found = {f"distinct_{n}": distinct(words, n) for n in (1, 2, 3, 4)}
    return {"texts": len(chosen), **found, "self_bleu": statistics.fmean(self_bleu(words)), "zlib_ratio": zlib_ratio(chosen)}


def _overlap(rows: Sequence[Row], made: Made, config: SynthConfig) -> dict[str, Any]:
    """By evaluation path: its rows; ours that were dropped for so many words in common; ours that were kept with 8 in common."""
    against = config.decontaminate.against
    if not against:
        return {}
    known = evaluation_texts(read_evaluation_rows(against), OVERLAP_WORDS)
    sizes = Counter(place.path for place in known.places)
    dropped = Counter(one.value["against"] for one in made.rejected if one.rule == "decontaminate.against")
    alike = Counter(found.place.path for row in rows if (found := overlap_of(row, known)) is not None)
    return {path: {"rows": sizes[path], "dropped": dropped[path], "kept_with_8_words": alike[path]} for path in against}
