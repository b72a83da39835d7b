"""Losses on text of one domain: the same tokens in the same windows for every trial, however it packs its training data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.config.errors import InputError, unknown, wrong_value
from harness.config.schema import ValidationConfig
from harness.data.labels import IGNORED
from harness.data.ragged import Int64, offsets_of, spans
from harness.data.split import Hashes, held_out, select_validation
from harness.data.token_cache import TokenizedDocuments
from harness.data.tokenization import Tokenization
from harness.evaluation.evaluation_set import Advance, Chosen, Float64, LanguageModel, Measured, TokenSet


@dataclass(frozen=True, eq=False)
class DomainLossSet(TokenSet):
    """Whole documents, cut into windows in which every token but a document's first is predicted exactly once.

    Measures {"loss": nats per predicted token, "bits_per_byte": …}, forgetting: the rise of the loss since step 0, and with measures_kl
    kl: KL(base || model) of the next token's distribution, in nats per predicted token; then forgetting is the rise above the base's loss.
    """

    section = "validation"
    name: str
    tokens: NDArray[Any]
    """Token ids [tokens] of the documents, one after the other."""
    lengths: Int64
    """int64[documents]: tokens of each."""
    hashes: Hashes
    """uint64[documents]."""
    bytes: int
    """UTF-8 bytes of the documents' text, of conversations of their trained text: what bits per byte are per byte of."""
    context_length: int
    trained: NDArray[np.bool_] | None = None
    """bool[tokens]: which tokens are scored; None: all."""
    cache_entry: str | None = None
    document_bytes: Float64 | None = None
    """float64[documents]: what `bytes` is the sum of; None of a set that is not divided."""
    measures_kl: bool = False
    """Whether the model is compared with its base, too."""

    @property
    def documents(self) -> int:
        return len(self.lengths)

    @property
    def predicted_tokens(self) -> int:
        """Tokens that are scored: all, or those that data.loss_on trains; a document's first is not predicted."""
        if self.trained is None:
            return len(self.tokens) - self.documents
        return int(np.count_nonzero(self.trained)) - int(np.count_nonzero(self.trained[offsets_of(self.lengths)[:-1]]))

    @property
    def tokens_read(self) -> int:
        return len(self.tokens) * (2 if self.measures_kl else 1)  # the base reads them, too

    @property
    def not_to_train_on(self) -> Hashes:
        return self.hashes

    @property
    def size(self) -> int:
        return self.predicted_tokens

    @property
    def limit(self) -> tuple[str, str]:
        return f"{self.key}.max_tokens", f"{self.predicted_tokens:,} tokens"

    def summary(self) -> dict[str, int]:
        return {"documents": self.documents, "predicted_tokens": self.predicted_tokens, "bytes": self.bytes}

    def only(self, chosen: Chosen, name: str) -> DomainLossSet:
        assert self.document_bytes is not None, "it was drawn from documents"
        of_tokens = np.repeat(chosen, self.lengths)
        return replace(
            self,
            name=name,
            tokens=self.tokens[of_tokens],
            lengths=self.lengths[chosen],
            hashes=self.hashes[chosen],
            bytes=max(1, round(float(self.document_bytes[chosen].sum()))),
            trained=None if self.trained is None else self.trained[of_tokens],
            document_bytes=self.document_bytes[chosen],
        )

    def measure(self, model: LanguageModel, advance: Advance) -> Measured:
        nats, predicted, by_window = self._sums(model, advance)
        values, documents = self._values(nats, predicted), {"loss": self._by_document(by_window[:, [0, 1]])}
        if not self.measures_kl:
            return Measured(values, documents=documents)
        values["kl"], base_loss = (math.fsum(by_window[:, column]) / self.predicted_tokens for column in (2, 3))
        documents["kl"] = self._by_document(by_window[:, [2, 1]])
        return Measured(values, documents=documents, base={"loss": base_loss})

    def _values(self, nats: Float64, predicted: Int64) -> dict[str, float]:
        """Metrics from sums by position, see `by_position`."""
        return self._losses(math.fsum(nats))

    def _by_document(self, by_window: Float64) -> dict[str, tuple[float, float]]:
        """Args: float64 [windows, 2], a sum (nats) and predicted tokens of each window."""
        _, _, documents = self._windows
        nats, tokens = (np.bincount(documents, weights=column, minlength=self.documents) for column in by_window.T)
        return {f"{key:016x}": (float(a), float(b)) for key, a, b in zip(self.hashes.tolist(), nats, tokens, strict=True) if b}

    def _losses(self, nats: float) -> dict[str, float]:
        return {"loss": nats / self.predicted_tokens, "bits_per_byte": nats / math.log(2) / self.bytes}

    def since_start(self, values: Mapping[str, float], initial: Mapping[str, float]) -> dict[str, float]:
        return {"forgetting": values["loss"] - initial["loss"]}

    def by_position(self, model: LanguageModel, advance: Advance) -> tuple[Float64, Int64]:
        """Nats, and predicted tokens, of all windows by position: float64 and int64 [context_length]."""
        nats, predicted, _ = self._sums(model, advance)
        return nats, predicted

    def _sums(self, model: LanguageModel, advance: Advance) -> tuple[Float64, Int64, Float64]:
        """The same, and nats, predicted tokens and, with measures_kl, KL and the base's nats of each window: float64 [windows, 2 or 4]."""

        def sums(batch: tuple[Int64, Int64]) -> tuple[Float64, Int64, Float64]:
            input_ids, labels = batch
            # In float64: that the parts add up to the whole must not depend on how they were batched.
            losses, *beside = model.losses_beside_base(input_ids, labels) if self.measures_kl else (model.losses(input_ids, labels),)
            counted = labels >= 0
            return losses.sum(axis=0), counted.sum(axis=0), np.stack([part.sum(axis=1) for part in (losses, counted, *beside)], axis=1)

        nats, predicted = np.zeros(self.context_length), np.zeros(self.context_length, dtype=np.int64)
        by_window = []
        for some, counted, windows in model.over(self.batches(model.batch_tokens), sums):
            nats[: len(some)] += some
            predicted[: len(some)] += counted
            by_window.append(windows)
            advance(int(counted.sum()))
        return nats, predicted, np.concatenate(by_window)

    @cached_property
    def fingerprint(self) -> str:
        how = f"{self.context_length}{self._also_measured}{' kl' if self.measures_kl else ''}"
        masks = () if self.trained is None else (self.trained,)
        return self._digest(self.lengths, self.tokens.astype(np.int64), *masks, of=how)

    _also_measured = ""
    """What is made of the same windows besides; part of the fingerprint."""

    @cached_property
    def _windows(self) -> tuple[Int64, Int64, Int64]:
        """First token, number of predictions and document of each window, longest window first: three int64[windows]."""
        predicted = self.lengths - 1
        counts = -(-predicted // self.context_length)
        within = spans(0, counts) * self.context_length
        starts = np.repeat(offsets_of(self.lengths)[:-1], counts) + within
        sizes = np.minimum(np.repeat(predicted, counts) - within, self.context_length)
        order = np.argsort(-sizes, kind="stable")
        return starts[order], sizes[order], np.repeat(np.arange(self.documents), counts)[order]

    def batches(self, batch_tokens: int) -> Iterator[tuple[Int64, Int64]]:
        """All windows, in batches of about the same length and at most `batch_tokens` positions (but at least one window).

        Yields (input_ids int64[b, l], labels int64[b, l]), labels shifted already: labels[i, t] follows input_ids[i, t]. Where a window
        is shorter than l, input ids are 0 and labels -100 at its end: under causal attention neither affects the rest. Labels are -100
        too where a token is not scored.
        """
        starts, sizes, _ = self._windows
        first = 0
        while first < len(starts):
            longest = int(sizes[first])
            some = slice(first, first + max(1, batch_tokens // longest))
            at = starts[some, None] + np.arange(longest)
            real = np.arange(longest) < sizes[some, None]
            at[~real] = 0
            # int64 before -100 goes in: token ids are unsigned.
            inputs, labels = self.tokens[at].astype(np.int64), self.tokens[at + 1].astype(np.int64)
            if self.trained is not None:
                labels[~self.trained[at + 1]] = IGNORED
            inputs[~real], labels[~real] = 0, IGNORED
            yield inputs, labels
            first = some.stop


def build_domain_loss(
    name: str, config: ValidationConfig, tokens: Tokenization, *, kind: type[DomainLossSet] = DomainLossSet
) -> DomainLossSet:
    """The set of data.validation.<name>: from files of its own, or held out of a source.

    Raises InputError for text that cannot be read, an unknown source, and where there is nothing to evaluate on.
    """
    data, key = tokens.config, f"data.validation.{name}"
    if config.path is not None:
        documents = tokens.of_path(key, config)
        candidates = np.arange(documents.documents, dtype=np.int64)
    elif config.source is None or config.share is None:
        raise InputError(f"{key}: give either .path, or .source with .share")
    elif config.source not in data.sources:
        raise unknown("source", config.source, data.sources, where=f"{key}.source")
    else:
        documents = tokens.of_source(config.source)
        if documents.are_answers:
            held = "pairs of answers" if documents.are_pairs else "answers to compare"
            raise wrong_value(f"{key}.source", config.source, f"holds {held}; valid: data.preference.{name}, with pairs")
        candidates = np.flatnonzero(held_out(documents.hashes, config.share))
        if len(candidates) == 0:
            problem = f"holds out none of the {documents.documents} documents of data.sources.{config.source}; take a larger share"
            raise wrong_value(f"{key}.share", config.share, problem)
    caps = [cap for cap in (config.max_tokens, data.max_evaluation_tokens) if cap is not None]
    most = min(caps, default=None)
    chosen = select(kind, name, documents, candidates, max_tokens=most, context_length=data.context_length, block=config.block)
    return replace(chosen, measures_kl=data.kl)


def select(
    kind: type[DomainLossSet],
    name: str,
    documents: TokenizedDocuments,
    candidates: Int64,
    *,
    max_tokens: int | None,
    context_length: int,
    block: int = 0,
) -> DomainLossSet:
    """A set drawn from the candidates (int64[n], indices of documents); see `select_validation`.

    If even the first document is longer than `max_tokens`, it is truncated, and its bytes are counted in proportion.
    Raises InputError when nothing can be predicted: no candidate has two tokens, `max_tokens` is 1, or the loss is on none of the tokens.
    """
    key = f"data.validation.{name}"
    if max_tokens is not None and max_tokens < 2:
        raise wrong_value(f"{key}.max_tokens", max_tokens, "at least 2, for one token to be predicted from another")
    lengths = documents.lengths[candidates]
    chosen = select_validation(documents.hashes[candidates], lengths, max_tokens, block=block, key=key)
    if len(chosen) == 0:
        raise wrong_value(key, len(candidates), "documents, none of which has two tokens to predict one from the other")
    kept = lengths[chosen] if max_tokens is None else np.minimum(lengths[chosen], max_tokens)
    index = candidates[chosen]
    sizes = documents.bytes[index] * (kept / lengths[chosen])
    tokens = spans(documents.offsets[index], kept)
    chosen_set = kind(
        name=name,
        tokens=np.asarray(documents.tokens[tokens]),
        lengths=kept,
        hashes=documents.hashes[index],
        bytes=round(float(sizes.sum())) if documents.trained is None else max(1, round(float(sizes.sum()))),
        context_length=context_length,
        trained=None if documents.trained is None else np.asarray(documents.trained[tokens]),
        cache_entry=documents.fingerprint,
        document_bytes=sizes,
    )
    if chosen_set.predicted_tokens == 0:
        raise wrong_value(key, len(index), "documents, on none of whose tokens the loss is (data.loss_on, .max_tokens)")
    return chosen_set
