"""Losses over tokens, summed: what a step divides by is counted over all of its micro-batches and ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    """loss(*columns), where `loss` is a sum over rows, see `_chunks`: []."""
    return torch.stack(_chunks(loss, columns, chunk)).sum() if _is_cut(columns, chunk) else loss(*columns)


def chunked(values: Callable[..., Tensor], *columns: Tensor, chunk: int | None) -> Tensor:
    """values(*columns), where `values` are one a row, see `_chunks`: [N]."""
    return torch.cat(_chunks(values, columns, chunk)) if _is_cut(columns, chunk) else values(*columns)


def _is_cut(columns: Sequence[Tensor], chunk: int | None) -> bool:
    return chunk is not None and len(columns[0]) > chunk


def _chunks(computed: Callable[..., Tensor], columns: Sequence[Tensor], chunk: int | None) -> list[Tensor]:
    """What is computed of rows, `chunk` rows at a time.

    A chunk keeps nothing but its rows for the gradient, and is computed once more for it: what `computed` makes of rows, such as their
    logits, is held for one chunk at a time. Parameters that it uses get their gradients as usual.

    Args: columns, each [N, ...].
    """
    assert chunk is not None, "asked for"
    parts = zip(*(torch.split(column, chunk) for column in columns), strict=True)
    return [checkpoint(computed, *rows, use_reentrant=False) for rows in parts]
