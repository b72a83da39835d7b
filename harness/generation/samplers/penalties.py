"""Less of what was said."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor


def penalties(
    logits_BV: Tensor, histories: Sequence[Sequence[int]], *, repetition: float = 1.0, presence: float = 0.0, frequency: float = 0.0
) -> Tensor:
    """Logits of the tokens of a row's history: divided by `repetition` if positive, else multiplied (arXiv 1909.05858); then lowered by
    `presence`, and by `frequency` as often as it holds them."""
    lengths = [len(history) for history in histories]
    said = np.fromiter(chain.from_iterable(histories), dtype=np.int64, count=sum(lengths))
    places, counts = np.unique(np.repeat(np.arange(len(histories)), lengths) * logits_BV.shape[1] + said, return_counts=True)
    place, times = (torch.from_numpy(values).to(logits_BV.device) for values in (places, counts))
    row, token = place // logits_BV.shape[1], place % logits_BV.shape[1]
    seen_logits = logits_BV[row, token]
    seen_logits = torch.where(seen_logits > 0, seen_logits / repetition, seen_logits * repetition) - presence - frequency * times
    return logits_BV.index_put((row, token), seen_logits)
