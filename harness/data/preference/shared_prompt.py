"""How much of its prompt a pair of answers needs to have once only."""

from __future__ import annotations

import numpy as np

from harness.data.ragged import Int64, offsets_of, spans
from harness.data.token_cache import TokenizedDocuments


def shared_prompts(pairs: TokenizedDocuments) -> Int64:
    """The tokens with which both documents of each pair begin and that the second one may leave to the first: int64[pairs].

    The last token before an answer is none of them: it predicts the answer's first token, and both documents have their own.
    """
    chosen, rejected = pairs.offsets[:-1:2], pairs.offsets[1::2]
    # Less than the chosen answer's document, too: one that goes on where the other ends could not be told from a single one.
    most = np.minimum(pairs.lengths[::2], pairs.answer_starts[1::2] - rejected) - 1
    most = np.maximum(most, 0)
    differ = pairs.tokens[spans(chosen, most)] != pairs.tokens[spans(rejected, most)]
    pair = np.repeat(np.arange(len(most)), most)
    upto = offsets_of(differ)
    is_same = upto[1:] == upto[offsets_of(most)[pair]]
    return np.bincount(pair[is_same], minlength=len(most))
