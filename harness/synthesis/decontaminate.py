"""Rows that hold what models are evaluated on."""

from __future__ import annotations

from collections.abc import Sequence

from harness.config.synth_schema import DecontaminateConfig
from harness.synthesis.evaluation_texts import EvaluationTexts, Overlap, evaluation_texts, read_evaluation_rows, texts_in
from harness.synthesis.row import Rejected, Row


def decontaminate(rows: Sequence[Row], config: DecontaminateConfig) -> tuple[list[Row], list[Rejected]]:
    """The rows without any such words, in their order, and the others, each with the first words and where they are from.

    The prompt and all fields of a row are looked at, those of its seeds, too. Raises InputError for files that cannot be read.
    """
    if not config.against:
        return list(rows), []
    known = evaluation_texts(read_evaluation_rows(config.against), config.ngram)
    kept, rejected = [], []
    for row in rows:
        found = overlap_of(row, known)
        if found is None:
            kept.append(row)
        else:
            value = {"against": found.place.path, "where": found.place.where, "words": found.words}
            rejected.append(Rejected(row, "decontaminate.against", value))
    return kept, rejected


def overlap_of(row: Row, known: EvaluationTexts) -> Overlap | None:
    """The first words of a row that are in an evaluation set."""
    return next((found for text in (row.prompt, *texts_in(row.fields)) if (found := known.overlap(text)) is not None), None)
