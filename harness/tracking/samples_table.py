"""What a run wrote for its evaluation sets, as tables of W&B: a row a text, as it was at the first step and at the last one.
The noise of both is the same: what differs comes of training."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby, islice

from harness.runs.generations import GenerationsFile, WrittenText

KEY = "samples"
"""Tables are called samples/<name of the set>."""
ROWS = 100
"""Of a table."""
CHARACTERS = 4_000
"""Of a prompt's end, and of a text."""


def samples_tables(generations: GenerationsFile) -> dict[str, tuple[list[str | int], list[list[str | float | None]]]]:
    """Columns and rows of each table, by its key; {} where nothing was written. Raises DamagedError and OSError."""
    steps = generations.by_step()
    if not steps:
        return {}
    shown = list(dict.fromkeys([min(steps), max(steps)]))
    columns: list[str | int] = ["id", "draw", "prompt", *(f"{what} at step {step}" for step in shown for what in ("text", "score"))]
    texts = [{text.place: text for text in steps[step]} for step in shown]
    # The last step has every set: all are measured at a run's end, but an attempt that was stopped may have fewer.
    places: Iterable[WrittenText] = {**texts[0], **texts[-1]}.values()
    tables = {}
    for name, group in groupby(sorted(places, key=lambda text: text.set), lambda text: text.set):
        rows: list[list[str | float | None]] = []
        for text in islice(group, ROWS):
            found = [at.get(text.place) for at in texts]
            cells = [cell for one in found for cell in ((one.text[:CHARACTERS], one.score) if one else (None, None))]
            rows.append([text.id, text.draw, text.prompt[-CHARACTERS:], *cells])
        tables[f"{KEY}/{name}"] = (columns, rows)
    return tables
