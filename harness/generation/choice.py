"""Which token comes next: the samplers' distribution, the row's own noise, and a second look at close calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harness.config.schema import SamplingConfig
from harness.generation.chain import SamplerChain
from harness.generation.decode import Reader
from harness.generation.noise import NoiseAhead
from harness.generation.row_state import RowState
from harness.generation.rows import NonFiniteLogitsError
from harness.generation.samplers.rounding import Rounding


class Choice:
    """How this model's next tokens are chosen."""

    def __init__(self, reader: Reader, sampling: SamplingConfig, tokenizer: Any, unwritable: Sequence[int]) -> None:
        self._reader = reader
        self._chain = SamplerChain(sampling, tokenizer)
        self._noise = NoiseAhead()
        self._unwritable = torch.tensor(unwritable, dtype=torch.int64, device=reader.device) if unwritable else None
        self.is_exact = reader.model.dtype is torch.float32 and not torch.is_autocast_enabled(reader.device.type)
        """Whether rounding is small enough for `CLOSE` of samplers/rounding.py."""

    @property
    def is_greedy(self) -> bool:
        """Whether nothing is drawn."""
        return self._chain.greedy

    def tokens(self, logits_BV: Tensor, rows: Sequence[RowState]) -> list[int]:
        """The next token of each row. Raises NonFiniteLogitsError."""
        ids, unsure = self._best(logits_BV, rows, looks_again=self.is_exact)
        # A row alone has one set of logits, whatever it was read with: where rounding might decide, they do.
        alone = {index: self._reader.alone(rows[index].history, rows[index].prompt_tokens) for index in unsure}
        for index, own in alone.items():
            ids[index] = self._best(own, [rows[index]], looks_again=False)[0]
        if self._chain.learns:
            seen = logits_BV if not alone else torch.cat([alone.get(index, logits_BV[index : index + 1]) for index in range(len(rows))])
            self._chain.chosen(ids, self._writable(seen), rows)
        found: list[int] = ids.tolist()
        return found

    def _best(self, logits_BV: Tensor, rows: Sequence[RowState], *, looks_again: bool) -> tuple[Tensor, list[int]]:
        """The best token of each row, int64 [B]; and, with looks_again, the rows for which rounding might make it another one."""
        logits = self._writable(logits_BV)
        rounding = Rounding(logits) if looks_again else None
        scores = self._chain.filter(logits, rows, rounding)
        if not self._chain.greedy:
            # What is looked at again stands alone: it does not take the place of the noise of all rows.
            noise = self._noise if looks_again or not self.is_exact else NoiseAhead()
            scores = noise.add(scores, [row.key for row in rows], [row.position for row in rows])
        best, ids = scores.topk(min(2, scores.shape[1]), dim=-1)
        if not bool((best[:, 0] > -torch.inf).all()):
            raise NonFiniteLogitsError("the model's logits are NaN")
        chosen = ids[:, 0].clone()
        if rounding is None:
            return chosen, []
        return chosen, rounding.unsure(chosen, best[:, 0] - best[:, -1], matters_later=self._chain.learns)

    def _writable(self, logits_BV: Tensor) -> Tensor:
        """float32, without what is no text."""
        logits = logits_BV.float()
        return logits if self._unwritable is None else logits.index_fill(1, self._unwritable, -torch.inf)
