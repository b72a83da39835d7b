"""A batch of rows that is decoded: what the model says of each row's next token, as rows come and go."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.config.checks.model import longest_context
from harness.data.prompt import prompt_ids
from harness.generation.cache import ROOM, GrowingCache
from harness.models.adapters.soft_prompt import prompt_length
from harness.models.answer_tokens import telling_answers


class Batch(Protocol):
    """Rows that are written together."""

    def replace(self, kept: Sequence[int], texts: Sequence[Sequence[int]], rows: Sequence[int]) -> Tensor:
        """Keep the rows at these places, and put new ones behind them: row i goes on from the prompt texts[rows[i]].

        Returns what follows each new row: logits [len(rows), V].
        """

    def step(self, ids: Sequence[int]) -> Tensor:
        """The next token of every row is known: what follows it, logits [B, V]."""


class Reader:
    """A model and how it is asked: the soft prompt before every text, positions, and the last position's logits alone."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model: Any = model
        self.device = model.device
        known = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in known
        self._keeps_last = "logits_to_keep" in known
        # Of packed rows, where no mask is given: `harness.models.document_mask`.
        self._masks_documents: bool = any(module._forward_pre_hooks for module in (self.model, _decoder_of(model)))
        self.soft = prompt_ids(torch.arange(prompt_length(model)).numpy()).tolist()
        """Ids of the soft prompt."""
        self.longest = longest_context(model.config.to_dict())
        """Tokens that the model reads, a soft prompt among them; None: as many as there are."""

    def read(
        self,
        ids_BL: Tensor,
        mask: Tensor | None,
        positions_BL: Tensor,
        cache: GrowingCache | None,
        *,
        written: Tensor | bool,
        last: bool = True,
    ) -> Tensor:
        """Logits [B, V] of the last position, or of all [B, L, V]. mask: of padding, bool [B, L], of all positions up to
        here, those of the cache as well; or the whole one of a step, bool [B, 1, 1, L]; None: there is no padding, and no mask to be looked
        at, which takes as long as a small layer. written: which of the ids follow a prompt: bool [B, L], or all or none."""
        given: dict[str, Any] = {"position_ids": positions_BL} if self._takes_positions else {}
        if last and self._keeps_last:
            given["logits_to_keep"] = 1
        if cache is not None:
            given["past_key_values"] = cache
        if mask is None and self._masks_documents:
            mask = torch.ones(len(ids_BL), ids_BL.shape[1] + (0 if cache is None else cache.get_seq_length()), device=self.device)
        with telling_answers(self.model, lambda: torch.as_tensor(written, device=self.device).expand_as(ids_BL)):
            logits: Tensor = self.model(input_ids=ids_BL, attention_mask=mask, use_cache=cache is not None, **given).logits
        return logits[:, -1] if last else logits

    def alone(self, history: Sequence[int], prompt_tokens: int) -> Tensor:
        """Logits [1, V] of what follows a text by itself, which begins with so many tokens of a prompt: no cache, no padding."""
        ids = torch.tensor([[*self.soft, *history]], device=self.device)
        places = torch.arange(ids.shape[1], device=self.device)[None]
        return self.read(ids, None, places, None, written=places >= len(self.soft) + prompt_tokens)


def _decoder_of(model: Any) -> Any:
    return model.get_decoder()


class CachedBatch:
    """Rows end at the same position of a cache, padded on the left."""

    def __init__(self, reader: Reader, *, own_mask: bool = False) -> None:
        """own_mask: the model is given the whole mask of a step, rather than that of padding, of which it makes one anew each time; for a
        model that `sees_all`."""
        self._reader, self._own_mask = reader, own_mask
        self._cache: GrowingCache | None = None
        self._sizes: list[int] = []
        """How many tokens of each row the cache holds."""
        self._mask = self._positions = torch.empty(0)

    def replace(self, kept: Sequence[int], texts: Sequence[Sequence[int]], rows: Sequence[int]) -> Tensor:
        reader, device = self._reader, self._reader.device
        sizes = [self._sizes[index] for index in kept]
        added, logits = None, torch.empty(0)
        copies = torch.tensor(rows, dtype=torch.int64, device=device)
        if texts:
            whole = [[*reader.soft, *text] for text in texts]
            added = GrowingCache()
            ids, mask = padded_left(whole, device)
            padded = len(set(map(len, whole))) > 1
            logits = reader.read(ids, mask if padded else None, positions_of(mask), added, written=False)[copies]
            sizes += [len(whole[row]) for row in rows]
        self._sizes = sizes
        length = max(sizes, default=0)
        if self._cache is None or not kept:
            # The new rows as they are, unless several of them go on from one text.
            self._cache = added
            if added is not None and list(rows) != list(range(len(texts))):
                added.replace_rows(copies, None, copies[:0], length)
        else:
            self._cache.replace_rows(torch.tensor(kept, dtype=torch.int64, device=device), added, copies, length)
        self._follow(length)
        return logits

    def _follow(self, length: int) -> None:
        """Mask and positions for the steps to come."""
        device = self._reader.device
        sizes = torch.tensor(self._sizes, dtype=torch.int64, device=device)
        self._length, self._positions = length, sizes[:, None] - 1
        self._is_padded = len(set(self._sizes)) > 1
        columns = torch.arange(length + ROOM, device=device)
        self._mask = columns >= (length - sizes)[:, None]

    def step(self, ids: Sequence[int]) -> Tensor:
        self._length += 1
        self._sizes = [size + 1 for size in self._sizes]
        if self._length > self._mask.shape[1]:
            self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._mask), ROOM)], dim=1)
        # A row that has ended is read on until it is taken out, also where its positions do.
        self._positions = self._positions + 1
        if self._reader.longest is not None:
            self._positions = self._positions.clamp(max=self._reader.longest - 1)
        given = torch.tensor(ids, device=self._reader.device)[:, None]
        mask = self._mask[:, : self._length] if self._is_padded else None
        if mask is not None and self._own_mask:
            mask = mask[:, None, None]  # [B, heads, queries, L]
        return self._reader.read(given, mask, self._positions, self._cache, written=True)


class UncachedBatch:
    """Every step reads whole texts, padded on the right, where nothing looks: for models that remember otherwise than by attention."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._texts: list[list[int]] = []
        self._prompts: list[int] = []
        """How many tokens of each are its prompt."""

    def replace(self, kept: Sequence[int], texts: Sequence[Sequence[int]], rows: Sequence[int]) -> Tensor:
        added = [[*self._reader.soft, *texts[row]] for row in rows]
        self._texts = [self._texts[index] for index in kept] + added
        self._prompts = [self._prompts[index] for index in kept] + [len(text) for text in added]
        return self._read(added, self._prompts[len(kept) :]) if added else torch.empty(0)

    def step(self, ids: Sequence[int]) -> Tensor:
        for text, index in zip(self._texts, ids, strict=True):
            if self._reader.longest is None or len(text) < self._reader.longest:
                text.append(index)
        return self._read(self._texts, self._prompts)

    def _read(self, texts: Sequence[Sequence[int]], prompts: Sequence[int]) -> Tensor:
        length = max(map(len, texts))
        device = self._reader.device
        ids = torch.tensor([[*text, *[0] * (length - len(text))] for text in texts], device=device)
        ends = torch.tensor([len(text) for text in texts], device=device)
        columns = torch.arange(length, device=device)
        mask = columns < ends[:, None]
        written = columns >= torch.tensor(prompts, device=device)[:, None]
        logits = self._reader.read(ids, mask.long(), columns.expand_as(ids), None, written=written, last=False)
        return logits[torch.arange(len(texts), device=device), ends - 1]


def padded_left(texts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids int64 [B, L], and which of them are no padding, bool [B, L]."""
    length = max(map(len, texts))
    ids = torch.tensor([[*[0] * (length - len(text)), *text] for text in texts], device=device)
    sizes = torch.tensor([len(text) for text in texts], device=device)
    return ids, torch.arange(length, device=device) >= (length - sizes)[:, None]


def positions_of(mask: Tensor) -> Tensor:
    """Positions int64 [B, L] that begin where the padding on the left ends."""
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)
