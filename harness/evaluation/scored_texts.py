"""Token sequences of which some tokens are scored, in batches of about one length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.labels import IGNORED
from harness.data.ragged import Int64, offsets_of
from harness.evaluation.evaluation_set import Advance, Bools, Float64, LanguageModel

Batch = tuple[Int64, Int64, Int64]


@dataclass(frozen=True, eq=False)
class ScoredTexts:
    """Sequences of tokens, one after the other."""

    tokens: NDArray[Any]
    """Token ids [tokens]."""
    lengths: Int64
    """int64[sequences]: tokens of each."""
    is_scored: Bools
    """bool[tokens]; never the first of a sequence, which nothing predicts."""

    @classmethod
    def of_ends(cls, tokens: NDArray[Any], lengths: Int64, counts: Int64) -> ScoredTexts:
        """Whose ends are scored. counts: int64[sequences], how many tokens of each."""
        to_the_end = np.repeat(offsets_of(lengths)[1:], lengths) - np.arange(len(tokens))
        return cls(tokens, lengths, to_the_end <= np.repeat(counts, lengths))

    def batches(self, batch_tokens: int) -> Iterator[Batch]:
        """All sequences, in batches of about the same length and at most `batch_tokens` positions (but at least one sequence).

        Yields (sequences int64[b], input_ids int64[b, l], labels int64[b, l]), labels shifted already: those of the scored tokens, -100
        elsewhere. Padding is at the end, under causal attention it does not reach what is scored.
        """
        order = np.argsort(-self.lengths, kind="stable")
        starts = offsets_of(self.lengths)[:-1]
        first = 0
        while first < len(order):
            longest = int(self.lengths[order[first]]) - 1
            chosen = order[first : first + max(1, batch_tokens // longest)]
            at = np.arange(longest)
            real = at < self.lengths[chosen, None] - 1
            index = np.where(real, starts[chosen, None] + at, 0)
            labels = np.where(real & self.is_scored[index + 1], self.tokens[index + 1].astype(np.int64), IGNORED)
            yield chosen, np.where(real, self.tokens[index], 0).astype(np.int64), labels
            first += len(chosen)

    def log_likelihoods(self, model: LanguageModel, advance: Advance) -> Float64:
        """Of what is scored of each sequence, in nats: float64[sequences]."""

        def measure(batch: Batch) -> tuple[Int64, Float64]:
            indices, input_ids, labels = batch
            return indices, -model.losses(input_ids, labels).sum(axis=1)

        found = np.zeros(len(self.lengths))
        for indices, values in model.over(self.batches(model.batch_tokens), measure):
            found[indices] = values
            advance(len(indices))
        return found

    def log_likelihoods_and_hits(self, model: LanguageModel, advance: Advance) -> tuple[Float64, Bools]:
        """As `log_likelihoods`, and whether all that is scored of a sequence is what the model finds most likely: bool[sequences]."""

        def measure(batch: Batch) -> tuple[Int64, Float64, Bools]:
            indices, input_ids, labels = batch
            losses, hits = model.losses_and_hits(input_ids, labels)
            return indices, -losses.sum(axis=1), (hits | (labels == IGNORED)).all(axis=1)

        found, best = np.zeros(len(self.lengths)), np.zeros(len(self.lengths), dtype=np.bool_)
        for indices, values, hits in model.over(self.batches(model.batch_tokens), measure):
            found[indices], best[indices] = values, hits
            advance(len(indices))
        return found, best
