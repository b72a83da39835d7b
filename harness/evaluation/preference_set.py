"""Pairs of answers as a yardstick: what a run has made of them, compared with a reference, in the same way whatever it is trained by."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.config.errors import InputError, wrong_value
from harness.config.schema import PreferenceConfig
from harness.data.preference.formats import begins_with_label
from harness.data.ragged import Int64, offsets_of, spans
from harness.data.split import Hashes, held_out
from harness.data.token_cache import TokenizedDocuments
from harness.data.tokenization import Tokenization
from harness.evaluation.evaluation_set import Advance, Chosen, Float64, LanguageModel, Measured, TokenSet, fitting
from harness.evaluation.scored_texts import ScoredTexts

BETA = 0.1
"""Of the loss: losses at another could not be compared with it."""


@dataclass(frozen=True, eq=False)
class PreferenceSet(TokenSet):
    """Pairs of answers, each after its prompt as a document of its own.

    Measures loss, dpo's with BETA; accuracy, how often the chosen answer has gained more than the rejected one, a tie counting half;
    margin_per_token, chosen_shift and rejected_shift, gains over the reference in nats per token, averaged over pairs; and the accuracy of
    pairs whose chosen answer has more tokens than the rejected one, and of those where it has fewer, where there are any.
    """

    section = "preference"
    name: str
    tokens: NDArray[Any]
    """Token ids [tokens] of the documents, one after the other: chosen and rejected in turn."""
    lengths: Int64
    """int64[2 pairs]: tokens of each."""
    trained: NDArray[np.bool_]
    """bool[tokens]: which belong to an answer."""
    hashes: Hashes
    """uint64[pairs]: of the prompts."""
    left_out: int
    """Pairs with an answer that is, with its prompt, longer than data.context_length."""
    cache_entry: str | None = None
    reference_fingerprint: str = ""
    reference: Callable[[], Float64] | None = None
    """The log-probabilities of the answers under the reference, as `logps` gives them; asked for when the set is measured."""

    @property
    def pairs(self) -> int:
        return len(self.hashes)

    @property
    def documents(self) -> int:
        return self.pairs

    def only(self, chosen: Chosen, name: str) -> PreferenceSet:
        assert self.reference is None, "it is given to the parts"
        of_answers = np.repeat(chosen, 2)
        of_tokens = np.repeat(of_answers, self.lengths)
        return replace(
            self,
            name=name,
            tokens=self.tokens[of_tokens],
            lengths=self.lengths[of_answers],
            trained=self.trained[of_tokens],
            hashes=self.hashes[chosen],
        )

    @property
    def not_to_train_on(self) -> Hashes:
        return self.hashes

    @property
    def limit(self) -> tuple[str, str]:
        return f"{self.key}.max_pairs", f"{self.pairs:,} pairs"

    def summary(self) -> dict[str, int]:
        return {"pairs": self.pairs, "tokens": len(self.tokens), "left_out": self.left_out}

    @cached_property
    def fingerprint(self) -> str:
        return self._digest(self.lengths, self.tokens.astype(np.int64), self.trained, of=self.reference_fingerprint)

    def prepare(self) -> None:
        assert self.reference is not None, "given with the inputs of a run"
        self.reference()

    def measure(self, model: LanguageModel, advance: Advance) -> Measured:
        assert self.reference is not None, "given with the inputs of a run"
        shift = self.logps(model, advance) - self.reference()
        per_token = shift / self.answer_tokens
        gain = shift[0::2] - shift[1::2]
        accuracy = (gain > 0) + 0.5 * (gain == 0)
        longer = self.answer_tokens[0::2] - self.answer_tokens[1::2]
        values = {
            "loss": np.logaddexp(0, -BETA * gain),
            "accuracy": accuracy,
            "margin_per_token": per_token[0::2] - per_token[1::2],
            "chosen_shift": per_token[0::2],
            "rejected_shift": per_token[1::2],
        }
        of = {name: np.arange(self.pairs) for name in values}
        for name, pairs in (("accuracy_chosen_longer", longer > 0), ("accuracy_rejected_longer", longer < 0)):
            if pairs.any():
                values[name], of[name] = accuracy, np.flatnonzero(pairs)
        return Measured(
            {name: math.fsum(column[of[name]]) / len(of[name]) for name, column in values.items()},
            documents={
                name: {f"{self.hashes[pair]:016x}/{pair}": (float(column[pair]), 1.0) for pair in of[name].tolist()}
                for name, column in values.items()
            },
        )

    def logps(self, model: LanguageModel, advance: Advance) -> Float64:
        """The log-probability of each answer, in nats: float64[2 pairs]."""
        return ScoredTexts(self.tokens, self.lengths, self.trained).log_likelihoods(model, advance)

    @cached_property
    def answer_tokens(self) -> Int64:
        """Predicted tokens of each answer: int64[2 pairs]."""
        offsets, upto = offsets_of(self.lengths), offsets_of(self.trained)
        counts: Int64 = upto[offsets[1:]] - upto[offsets[:-1] + 1]
        return counts


def build_preference_set(name: str, config: PreferenceConfig, tokens: Tokenization) -> PreferenceSet:
    """The set of data.preference.<name>, without its reference: from files of its own, or held out of a source by prompt.

    Raises InputError for what cannot be read, and where no pair is left.
    """
    data, key = tokens.config, f"data.preference.{name}"
    if config.source is None:
        documents = tokens.of_pairs(key, config)
        candidates = np.arange(documents.documents // 2)
    else:
        assert config.share is not None, "checked: beside a source"
        if begins_with_label(tokens.files(f"data.sources.{config.source}", data.sources[config.source]).files[0], key=key):
            problem = f"holds answers with labels, and pairs are compared here; valid: {key}.path=FILE of pairs without .source, or ~{key}"
            raise wrong_value(f"{key}.source", config.source, problem)
        documents = tokens.of_pairs(f"data.sources.{config.source}", data.sources[config.source])
        candidates = np.flatnonzero(held_out(documents.hashes[0::2], config.share))
        if len(candidates) == 0:
            problem = f"holds out none of the {documents.documents // 2} pairs of data.sources.{config.source}; take a larger share"
            raise wrong_value(f"{key}.share", config.share, problem)
    longest = documents.lengths.reshape(-1, 2).max(axis=1)[candidates]
    pairs = candidates[longest <= data.context_length + 1]
    if len(pairs) == 0:
        raise InputError(f"{key}: none of its {len(candidates)} pairs has answers that fit into data.context_length={data.context_length}")
    pairs = pairs[np.argsort(documents.hashes[2 * pairs], kind="stable")][: config.max_pairs]
    sizes = documents.lengths.reshape(-1, 2).sum(axis=1)[pairs]
    pairs = pairs[: fitting(sizes, data.max_evaluation_tokens, f"the first pair of {key}")]
    return _of_documents(name, documents, pairs, left_out=int(np.count_nonzero(longest > data.context_length + 1)))


def _of_documents(name: str, documents: TokenizedDocuments, pairs: Int64, *, left_out: int) -> PreferenceSet:
    assert documents.trained is not None, "pairs have a mask"
    index = (2 * pairs[:, None] + np.arange(2)).reshape(-1)
    tokens = spans(documents.offsets[index], documents.lengths[index])
    return PreferenceSet(
        name=name,
        tokens=np.asarray(documents.tokens[tokens]),
        lengths=documents.lengths[index],
        trained=np.asarray(documents.trained[tokens]),
        hashes=np.asarray(documents.hashes[2 * pairs]),
        left_out=left_out,
        cache_entry=documents.fingerprint,
    )
