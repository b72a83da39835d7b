"""Adaptive-p (llama.cpp's pull request 17927): tokens near a probability, which makes up for what the last ones had."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.generation.row_state import RowState
from harness.generation.samplers.rounding import Rounding

WIDTH, PEAK, SHARPNESS = 0.3, 5.0, 10.0
"""How far from the target a token's logit falls, from which height, and how fast."""
SUM, WEIGHT = "adaptive_p.sum", "adaptive_p.weight"


class AdaptiveP:
    """Gives a token the logit PEAK - SHARPNESS x^2 / (1 + x), x = |p - aim| / WIDTH. The aim lies as far on the other side of the target as
    the average of the chosen ones' p, in which each counts `decay` times as much as the next."""

    def __init__(self, target: float, decay: float) -> None:
        self._target, self._decay = target, decay

    def __call__(self, logits_BV: Tensor, rows: Sequence[RowState], rounding: Rounding | None = None) -> Tensor:
        aims = torch.tensor([self.aim(row) for row in rows], dtype=logits_BV.dtype, device=logits_BV.device)
        p = logits_BV.softmax(dim=-1)
        if rounding is not None:
            rounding.scale(SHARPNESS / WIDTH * p.amax(dim=-1, keepdim=True))
        x = (p - aims[:, None]).abs() / WIDTH
        return (PEAK - SHARPNESS * x.square() / (1 + x)).masked_fill(logits_BV == -torch.inf, -torch.inf)

    def learn(self, ids_B: Tensor, logits_BV: Tensor, rows: Sequence[RowState]) -> None:
        """ids: what was chosen for these rows, which the call was given with these logits."""
        chosen = logits_BV.gather(1, ids_B[:, None])[:, 0] - logits_BV.logsumexp(dim=-1)
        for row, p in zip(rows, chosen.exp().tolist(), strict=True):
            total, weight = self._average(row)
            row.memory |= {SUM: p + self._decay * total, WEIGHT: 1 + self._decay * weight}

    def aim(self, row: RowState) -> float:
        """The probability near which the row's next token should lie."""
        total, weight = self._average(row)
        return min(max(2 * self._target - total / weight, 0.0), 1.0)

    def _average(self, row: RowState) -> tuple[float, float]:
        """The weighted sum, and the sum of the weights: at first as if the target had always been met."""
        return row.memory.get(SUM, self._target / (1 - self._decay)), row.memory.get(WEIGHT, 1 / (1 - self._decay))
