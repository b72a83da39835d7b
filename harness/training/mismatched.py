"""Answers after prompts that they do not belong to: what KTO compares the others with."""

from __future__ import annotations

import numpy as np

from harness.data.ragged import Int64, offsets_of, spans
from harness.data.training_data import PackedSource
from harness.evaluation.scored_texts import ScoredTexts


def mismatched(source: PackedSource, documents: Int64) -> ScoredTexts:
    """The prompts of these documents (int64[d], of its rows), each with the answer of its partner, cut where a row would end.

    Raises InputError where one prompt has more than half of the answers.
    """
    offsets, packing, partners = source.documents.offsets, source.packing, source.partners[documents]
    assert (partners >= 0).all(), "documents of its rows"
    assert source.documents.trained is not None, "answers have a mask"
    before = source.answer_starts[documents] - offsets[documents]
    begins = source.answer_starts[partners]
    follows = np.minimum(offsets[partners + 1] - begins, packing.context_length - packing.prompt - before)
    index = spans(np.stack([offsets[documents], begins], axis=1).reshape(-1), np.stack([before, follows], axis=1).reshape(-1))
    lengths = before + follows
    scored = np.array(source.documents.trained[index])
    scored[offsets_of(lengths)[:-1]] = False
    return ScoredTexts(np.asarray(source.documents.tokens[index]), lengths, scored)
