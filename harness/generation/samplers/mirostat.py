"""Mirostat 2 (arXiv 2007.14966): a bar on the surprise of a token, moved so that what is written has the same surprise throughout."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from harness.generation.row_state import RowState
from harness.generation.samplers.distribution import keep_best
from harness.generation.samplers.rounding import Rounding

MU = "mirostat.mu"


class Mirostat:
    """Keeps tokens whose surprise -log2 p is at most mu: 2 tau at first; eta (tau - surprise of the chosen one) is added after each."""

    def __init__(self, tau: float, eta: float) -> None:
        self._tau, self._eta = tau, eta

    def __call__(self, logits_BV: Tensor, rows: Sequence[RowState], rounding: Rounding | None = None) -> Tensor:
        bars = torch.tensor([self._mu(row) for row in rows], dtype=logits_BV.dtype, device=logits_BV.device) * math.log(2)
        return keep_best(logits_BV, logits_BV.log_softmax(dim=-1), -bars[:, None], rounding)

    def learn(self, ids_B: Tensor, logits_BV: Tensor, rows: Sequence[RowState]) -> None:
        """ids: what was chosen of the logits that were kept."""
        nats = -logits_BV.log_softmax(dim=-1).gather(1, ids_B[:, None])[:, 0]
        for row, surprise in zip(rows, (nats / math.log(2)).tolist(), strict=True):
            row.memory[MU] = self._mu(row) + self._eta * (self._tau - surprise)

    def _mu(self, row: RowState) -> float:
        return row.memory.get(MU, 2 * self._tau)
