"""Contrast pairs as a yardstick of a trait: which of two continuations a model finds likelier, and by how much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from harness.config.errors import InputError
from harness.config.schema import ContrastConfig
from harness.data.preference.contrast import ContrastPair, read_contrast_pairs
from harness.data.ragged import Int64
from harness.data.split import Hashes
from harness.data.tokenization import Tokenization
from harness.evaluation.evaluation_set import Advance, Bools, Chosen, LanguageModel, Measured, TokenSet, fitting
from harness.evaluation.scored_texts import ScoredTexts

FEWEST = 2


@dataclass(frozen=True, eq=False)
class ContrastSet(TokenSet):
    """Prompts with a positive and a negative continuation, each after its prompt as a document of its own.

    Measures margin, the mean over pairs of log p(positive) - log p(negative), each in nats per token of the continuation (so that the
    longer one is not the less likely for its length); and share, how often it is above 0, a tie counting half.
    """

    section = "contrast"
    name: str
    tokens: NDArray[np.int64]
    """int64[tokens] of the documents, one after the other: positive and negative in turn."""
    lengths: Int64
    """int64[2 pairs]: tokens of each."""
    is_scored: Bools
    """bool[tokens]: which belong to a continuation."""
    ids: tuple[str, ...]
    """Of each pair, a hash of its prompt (without an instruction) and continuations."""
    completions: tuple[tuple[str, str], ...]
    """Of each pair, the texts of its continuations."""
    places: tuple[str, ...]
    """Of each pair, its file and line."""
    left_out: int
    """Pairs with a continuation that is, with its prompt, longer than data.context_length."""
    hashes: Hashes
    """uint64[texts]: of prompt and continuation as one text."""

    @property
    def not_to_train_on(self) -> Hashes:
        return self.hashes

    @property
    def documents(self) -> int:
        return len(self.ids)

    def only(self, chosen: Chosen, name: str) -> ContrastSet:
        of_sides = np.repeat(chosen, 2)
        of_tokens = np.repeat(of_sides, self.lengths)
        return replace(
            self,
            name=name,
            tokens=self.tokens[of_tokens],
            lengths=self.lengths[of_sides],
            is_scored=self.is_scored[of_tokens],
            ids=tuple(compress(self.ids, chosen)),
            completions=tuple(compress(self.completions, chosen)),
            places=tuple(compress(self.places, chosen)),
        )

    @property
    def limit(self) -> tuple[str, str]:
        return f"{self.key}.max_pairs", f"{self.documents:,} pairs"

    def summary(self) -> dict[str, int]:
        return {"pairs": self.documents, "tokens": len(self.tokens), "left_out": self.left_out}

    @cached_property
    def fingerprint(self) -> str:
        return self._digest(self.lengths, self.tokens, self.is_scored)

    def measure(self, model: LanguageModel, advance: Advance) -> Measured:
        texts = ScoredTexts(self.tokens, self.lengths, self.is_scored)
        of_sides = np.repeat(np.arange(len(self.lengths)), self.lengths)
        per_token = texts.log_likelihoods(model, advance) / np.bincount(of_sides, weights=self.is_scored)
        margin = per_token[0::2] - per_token[1::2]
        columns = {"margin": margin, "share": (margin > 0) + 0.5 * (margin == 0)}
        return Measured(
            {name: math.fsum(column) / self.documents for name, column in columns.items()},
            documents={
                name: {pair: (float(value), 1.0) for pair, value in zip(self.ids, column, strict=True)} for name, column in columns.items()
            },
        )


def build_contrast_set(name: str, config: ContrastConfig, tokens: Tokenization) -> ContrastSet:
    """The set of data.contrast.<name>.

    Raises InputError for what cannot be read, and where fewer than two pairs are left.
    """
    data, key = tokens.config, f"data.contrast.{name}"
    chat = tokens.documents == "conversations" if config.chat is None else config.chat
    files = tokens.files(key, config).files
    read = read_contrast_pairs(files, data, tokens.tokenizer, key=key, chat=chat, instruction=config.instruction)
    if any(pair.is_rendered for pair in read):
        tokens.has_read_conversations = True
    once = {pair.identity: pair for pair in reversed(read)}
    short = [once[pair] for pair in sorted(once) if max(len(side.ids) for side in once[pair].sides) <= data.context_length + 1]
    left_out = len(once) - len(short)
    if len(short) < FEWEST:
        why = f", {left_out} are longer than data.context_length={data.context_length}" if left_out else ""
        raise InputError(f"{key}: {len(short)} contrast pairs in {', '.join(map(str, files[:3]))}{why}; valid: at least {FEWEST}")
    kept = short[: config.max_pairs]
    sizes = [sum(len(side.ids) for side in pair.sides) for pair in kept]
    kept = kept[: fitting(sizes, data.max_evaluation_tokens, f"the first pair of {key}")]
    return _of_pairs(name, kept, left_out=left_out)


def _of_pairs(name: str, pairs: Sequence[ContrastPair], *, left_out: int) -> ContrastSet:
    sides = [side for pair in pairs for side in pair.sides]
    return ContrastSet(
        name=name,
        tokens=np.concatenate([side.ids for side in sides]),
        lengths=np.array([len(side.ids) for side in sides], dtype=np.int64),
        is_scored=np.concatenate([side.trained for side in sides]),
        ids=tuple(pair.identity for pair in pairs),
        completions=tuple(pair.completions for pair in pairs),
        places=tuple(pair.where for pair in pairs),
        left_out=left_out,
        hashes=np.array([value for pair in pairs for value in pair.hashes], dtype=np.uint64),
    )
