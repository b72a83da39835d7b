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
    assert source.documents.trained is not None, "answers have a mask"
    before, follows = source.mismatched_lengths(documents)
    begins = source.documents.offsets[documents], source.documents.answer_starts[source.partners[documents]]
    index = spans(np.stack(begins, axis=1).reshape(-1), np.stack([before, follows], axis=1).reshape(-1))
    lengths = before + follows
    scored = np.array(source.documents.trained[index])
    scored[offsets_of(lengths)[:-1]] = False
    return ScoredTexts(np.asarray(source.documents.tokens[index]), lengths, scored)
