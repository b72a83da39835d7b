"""Which token comes next: the samplers' distribution, the row's own noise, and a second look at close calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harness.config.schema import SamplingConfig
from harness.generation.chain import SamplerChain
from harness.generation.decode import Reader
from harness.generation.noise import as_int64, noisy
from harness.generation.row_state import RowState

CLOSE = 1e-4
"""A lead of the best token over the second that rounding might turn: logits of a row in a batch and alone differ by about 1e-5."""


class NonFiniteLogitsError(ArithmeticError):
    """The model's logits are NaN."""


class Choice:
    """How this model's next tokens are chosen."""

    def __init__(self, reader: Reader, sampling: SamplingConfig, tokenizer: Any, unwritable: Sequence[int]) -> None:
        self._reader = reader
        self._chain = SamplerChain(sampling, tokenizer)
        self._unwritable = torch.tensor(unwritable, dtype=torch.int64, device=reader.device) if unwritable else None
        self.is_exact = reader.model.dtype is torch.float32 and not torch.is_autocast_enabled(reader.device.type)
        """Whether rounding is small enough for `CLOSE`."""

    def tokens(self, logits_BV: Tensor, rows: Sequence[RowState]) -> list[int]:
        """The next token of each row. Raises NonFiniteLogitsError."""
        ids, filtered, lead = self._best(logits_BV, rows)
        if self.is_exact:
            # A row alone has one set of logits, whatever it was read with: where rounding might decide, they do.
            for index in (lead < CLOSE).nonzero().flatten().tolist():
                alone, _, _ = self._best(self._reader.alone(rows[index].history), [rows[index]])
                ids[index] = alone[0]
        self._chain.chosen(ids, filtered, rows)
        found: list[int] = ids.tolist()
        return found

    def _best(self, logits_BV: Tensor, rows: Sequence[RowState]) -> tuple[Tensor, Tensor, Tensor]:
        """The best token of each row, int64 [B]; the logits that the samplers left, [B, V]; and its lead over the second, [B]."""
        logits = logits_BV.float()
        if self._unwritable is not None:
            logits = logits.index_fill(1, self._unwritable, -torch.inf)
        filtered = self._chain.filter(logits, rows)
        scores = filtered
        if not self._chain.greedy:
            keys = as_int64([row.key for row in rows], filtered.device)
            positions = torch.tensor([row.position for row in rows], device=filtered.device)
            scores = noisy(filtered, keys, positions)
        best, ids = scores.topk(min(2, scores.shape[1]), dim=-1)
        if not bool((best[:, 0] > -torch.inf).all()):
            raise NonFiniteLogitsError("the model's logits are NaN")
        return ids[:, 0].clone(), filtered, best[:, 0] - best[:, -1]
