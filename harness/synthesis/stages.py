"""From what teachers wrote to a data set: what is dropped, by which rule, and what the rest looks like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.synth_schema import SynthConfig
from harness.synthesis.decontaminate import decontaminate
from harness.synthesis.deduplicate import deduplicate
from harness.synthesis.emit import emit
from harness.synthesis.filters import filter_rows
from harness.synthesis.plan import Draft
from harness.synthesis.row import Rejected, Row
from harness.synthesis.select import RowPair, select


@dataclass(frozen=True)
class Made:
    """A data set."""

    selected: list[Row] | list[RowPair]
    """What becomes data."""
    data: list[dict[str, Any]]
    """What is trained on, a line each."""
    rejected: list[Rejected]
    funnel: dict[str, int]
    """How many were left after each stage, in order."""


def make_data(drafts: Sequence[Draft], config: SynthConfig) -> Made:
    """The data set of rows that are written: a function of these, in their order, and of the recipe. Raises InputError for a pattern or a
    file that the stages cannot use."""
    rejected = [Rejected(draft.row, *draft.dropped) for draft in drafts if draft.dropped is not None]
    rows = [draft.row for draft in drafts if draft.dropped is None]
    funnel = {"prompts": len({draft.row.group for draft in drafts}), "draws": len(drafts), "parsed": len(rows)}
    stages: dict[str, Callable[[Sequence[Row]], tuple[list[Row], list[Rejected]]]] = {
        "filtered": lambda rows: filter_rows(rows, config.filters),
        "different": lambda rows: deduplicate(rows, config.dedup),
        "clean": lambda rows: decontaminate(rows, config.decontaminate),
    }
    for name, stage in stages.items():
        rows, gone = stage(rows)
        rejected += gone
        funnel[name] = len(rows)
    selected, gone = select(rows, config.select)
    funnel["kept"] = len(selected)
    return Made(selected, emit(selected, config), [*rejected, *gone], funnel)
