"""Texts that a model writes: many rows together, each as it would be written alone.

In float32 a row's text depends on nothing but its id and draw, the model and the sampling: not on batch, order or worker. In other
precisions it depends on the rows that are written with it: `Engine.shards` divides rows once and for all.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from transformers import PreTrainedModel

from harness.config.errors import InputError
from harness.config.schema import SamplingConfig
from harness.generation.choice import Choice
from harness.generation.decode import Batch, CachedBatch, Reader, UncachedBatch
from harness.generation.ends import end_tokens, unwritable_tokens, with_stop_tokens
from harness.generation.probe import Way, way_of_writing
from harness.generation.rows import Draw, Generation, Limits
from harness.generation.writing import OnToken, Rules, Writing
from harness.generation.written_text import decoder_of
from harness.models.varlen import uses_varlen
from harness.models.vocabulary import refuse_unknown_ids

ENDED_SHARE = 1 / 8
"""Of a batch: when so many of its rows have ended they are taken out, and others take their place."""
SHARD_ROWS = 256
"""Rows that are written together, and redone together, where their texts depend on each other."""


class Engine:
    """A model that writes. It is used without dropout and gradients, see `harness.training.evaluation.evaluated`."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        sampling: SamplingConfig,
        *,
        batch_tokens: int,
        batch_rows: int | None = None,
        stop_token: int | None = None,
    ) -> None:
        """Args: batch_tokens: positions that the rows of a batch may have together; batch_rows: rows of a batch, instead; stop_token: what
        turns of the assistant end in."""
        self._model, self._tokenizer = model, tokenizer
        self._reader = Reader(model)
        self._batch_tokens, self._batch_rows = batch_tokens, batch_rows
        self._seed = sampling.seed
        self._unwritable = unwritable_tokens(model, tokenizer)
        self._choice = Choice(self._reader, sampling, tokenizer, self._unwritable)
        self.ends = end_tokens(model, tokenizer, stop_token)
        """Tokens that end a text."""

    def with_sampling(self, sampling: SamplingConfig) -> Engine:
        """The same model, whose next tokens are chosen otherwise."""
        other = copy.copy(self)
        other._seed = sampling.seed
        other._choice = Choice(self._reader, sampling, self._tokenizer, self._unwritable)
        return other

    @cached_property
    def way(self) -> Way:
        """How the model can be read."""
        with own_attention(self._model):
            return way_of_writing(self._reader)

    @property
    def is_exact(self) -> bool:
        """Whether a row's text does not depend on the rows beside it."""
        return self._choice.is_exact

    @property
    def is_greedy(self) -> bool:
        """Whether all draws after a prompt are the same text."""
        return self._choice.is_greedy

    @property
    def longest_prompt(self) -> int | None:
        """Tokens that leave room for one more in the model's context; None: any number."""
        return None if self._reader.longest is None else self._reader.longest - len(self._reader.soft) - 1

    def refuse(self, name: str, ids: Sequence[int]) -> None:
        """Raise InputError for a prompt (`name` in the message) without tokens, with one that the model lacks, or that leaves no room in
        the model's context."""
        if not ids and not self._reader.soft:
            raise InputError(f"{name}: it has no tokens, and there is nothing to go on from; valid: a text")
        if self.longest_prompt is not None and len(ids) > self.longest_prompt:
            raise InputError(
                f"{name}: {len(ids):,} tokens, which leave no room in the model's context of {self._reader.longest:,}; "
                f"valid: at most {self.longest_prompt:,}"
            )
        if ids:
            refuse_unknown_ids(self._model, self._tokenizer, max(ids), path=self._model.config.name_or_path)

    def refuse_endless(self, limits: Limits, key: str) -> None:
        """Raise InputError where every text would be cut at max_new_tokens. key: where a stop string is given."""
        if not (self.ends or limits.stop):
            raise InputError(
                f"this model ({self._model.config.model_type}): neither its tokenizer nor its generation_config.json has an end token, so "
                f"that no text would end by itself; valid: a stop string ({key}), or an eos_token in tokenizer_config.json"
            )

    def write(self, rows: Sequence[Draw], limits: Limits, on_token: OnToken | None = None) -> Iterator[Generation]:
        """The texts of the rows, as they end. on_token: called after every token of every row.

        Raises InputError for a prompt or a stop string that cannot be used, and for a model that cannot be read in batches.
        """
        for row in rows:
            self.refuse(f"the prompt {row.prompt.id}", row.prompt.token_ids)
        rules = self._rules(limits, follows_text=on_token is not None)
        # The longest first: what a batch takes at most shows at once.
        waiting = deque(sorted(rows, key=lambda row: -len(row.prompt.token_ids)))
        with own_attention(self._model):
            batch, here = self._batch(len(rows)), list[Writing]()
            while waiting or here:
                alive = [index for index, one in enumerate(here) if one.finish is None]
                if len(here) - len(alive) >= ENDED_SHARE * len(here):
                    added = self._taken(waiting, [here[index] for index in alive], rules)
                    changes = added or len(alive) < len(here)
                else:
                    added, changes = [], False
                if changes:
                    here = [here[index] for index in alive] + added
                    texts, places = _distinct([one.row.prompt.token_ids for one in added])
                    logits, going = batch.replace(alive, texts, places), added
                else:
                    logits = batch.step([one.state.history[-1] for one in here])
                    going = here
                    if len(alive) < len(here):
                        going, logits = [here[index] for index in alive], logits[torch.tensor(alive, device=logits.device)]
                if going:
                    self._go_on(going, logits, on_token)
                    yield from (one.written() for one in going if one.finish is not None)

    def shards(self, rows: Sequence[Draw], parts: int = 1) -> list[list[Draw]]:
        """The rows in lots that can be written each by itself; where a row's text depends on nothing else, so many lots at most."""
        ordered = sorted(rows, key=lambda row: -len(row.prompt.token_ids))
        if self.is_exact:
            return [ordered[part::parts] for part in range(min(parts, len(ordered)))]
        return [ordered[start : start + SHARD_ROWS] for start in range(0, len(ordered), SHARD_ROWS)]

    def _rules(self, limits: Limits, *, follows_text: bool) -> Rules:
        limits, more = with_stop_tokens(self._tokenizer, limits)
        most = None if self.longest_prompt is None else self.longest_prompt + 1
        return Rules(limits, self.ends | more, most, decoder_of(self._tokenizer), self._seed, follows_text)

    def _batch(self, rows: int) -> Batch:
        if self.way == "alone" and rows > 1 and self._most_rows > 1:
            raise InputError(
                f"this model ({self._model.config.model_type}) writes otherwise in a batch than alone: it sees the padding before shorter "
                "texts. Valid for it: one row at a time (--batch-size 1, or trainer.evaluation_batch_tokens=1)"
            )
        return UncachedBatch(self._reader) if self.way == "uncached" else CachedBatch(self._reader, own_mask=self.way == "own_mask")

    @property
    def _most_rows(self) -> int:
        return self._batch_rows or self._batch_tokens

    def _taken(self, waiting: deque[Draw], kept: Sequence[Writing], rules: Rules) -> list[Writing]:
        """The rows that enter the batch now."""
        prompts = [*(one.state.prompt_tokens for one in kept), *(len(row.prompt.token_ids) for row in list(waiting)[:1])]
        positions = len(self._reader.soft) + max(prompts, default=0) + rules.limits.max_new_tokens
        room = (self._batch_rows or max(1, self._batch_tokens // positions)) - len(kept)
        return [Writing(waiting.popleft(), rules) for _ in range(min(room, len(waiting)))]

    def _go_on(self, going: Sequence[Writing], logits: torch.Tensor, on_token: OnToken | None) -> None:
        """One more token of each row, given what the model says of it: logits [B, V]."""
        for one, token in zip(going, self._choice.tokens(logits, [one.state for one in going]), strict=True):
            one.add(token)
            if on_token is not None:
                on_token(one)


@contextmanager
def own_attention(model: PreTrainedModel) -> Iterator[None]:
    """Within it, a model whose attention was set to read packed rows reads a cache as others do."""
    if not uses_varlen(model):
        yield
        return
    whole: Any = model
    before = model.config._attn_implementation
    whole.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        whole.set_attn_implementation(before)


def _distinct(texts: Sequence[Sequence[int]]) -> tuple[list[Sequence[int]], list[int]]:
    """Texts without repetitions, and where each of the given ones is among them: draws of one prompt read it once."""
    places: dict[tuple[int, ...], int] = {}
    found = [places.setdefault(tuple(text), len(places)) for text in texts]
    return list(places), found
