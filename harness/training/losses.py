"""Losses over tokens, summed: what a step divides by is counted over all of its micro-batches and ranks."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def summed_cross_entropy(logits_V: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy summed over positions whose label is not -100: float32 [], in nats.

    Args: logits [..., V]; labels int64 [...], shifted already.
    """
    return F.cross_entropy(logits_V.flatten(0, -2).float(), labels.flatten(), ignore_index=-100, reduction="sum")


def chunked_sum(loss: Callable[..., Tensor], *columns: Tensor, chunk: int | None) -> Tensor:
    """loss(*columns), where `loss` is a sum over rows, computed `chunk` rows at a time; null: at once.

    A chunk keeps nothing but its rows for the gradient, and is computed once more for it: what `loss` makes of rows, such as their logits,
    is held for one chunk at a time. Parameters that `loss` uses get their gradients as usual.

    Args: columns, each [N, ...]. Returns [].
    """
    if chunk is None or len(columns[0]) <= chunk:
        return loss(*columns)
    sums = [checkpoint(loss, *rows, use_reentrant=False) for rows in zip(*(torch.split(column, chunk) for column in columns), strict=True)]
    return torch.stack(sums).sum()
