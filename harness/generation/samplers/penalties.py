"""Less of what was said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor


def penalties(
    logits_BV: Tensor, histories: Sequence[Sequence[int]], *, repetition: float = 1.0, presence: float = 0.0, frequency: float = 0.0
) -> Tensor:
    """Logits of the tokens of a row's history: divided by `repetition` if positive, else multiplied (arXiv 1909.05858); then lowered by
    `presence`, and by `frequency` as often as it holds them."""
    counts = [Counter(history) for history in histories]
    row = torch.tensor([row for row, seen in enumerate(counts) for _ in seen], dtype=torch.int64, device=logits_BV.device)
    token = torch.tensor([token for seen in counts for token in seen], dtype=torch.int64, device=logits_BV.device)
    times = torch.tensor([times for seen in counts for times in seen.values()], dtype=logits_BV.dtype, device=logits_BV.device)
    seen_logits = logits_BV[row, token]
    seen_logits = torch.where(seen_logits > 0, seen_logits / repetition, seen_logits * repetition) - presence - frequency * times
    return logits_BV.index_put((row, token), seen_logits)
