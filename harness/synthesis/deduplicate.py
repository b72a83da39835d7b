"""Which rows say nearly the same as an earlier one."""

from __future__ import annotations

from collections.abc import Sequence

from harness.config.synth_schema import DedupConfig
from harness.synthesis.filters import text_of
from harness.synthesis.near_duplicates import near_duplicates
from harness.synthesis.row import Rejected, Row


def deduplicate(rows: Sequence[Row], config: DedupConfig) -> tuple[list[Row], list[Rejected]]:
    """The rows that stay, in their order, and the others, each with the row that stays in its place and their similarity."""
    if config.jaccard is None:
        return list(rows), []
    found = near_duplicates([text_of(row, config.field) for row in rows], config.jaccard, config.ngram)
    gone = {one.index for one in found}
    rejected = [Rejected(rows[one.index], "dedup.jaccard", {"of": rows[one.of].id, "jaccard": round(one.jaccard, 6)}) for one in found]
    return [row for index, row in enumerate(rows) if index not in gone], rejected
