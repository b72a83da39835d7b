"""Losses over tokens, summed: what a step divides by is counted over all of its micro-batches and ranks."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def summed_cross_entropy(logits_BLV: Tensor, labels_BL: Tensor) -> Tensor:
    """Cross-entropy summed over positions whose label is not -100; labels are already shifted: float32 [], in nats."""
    return F.cross_entropy(logits_BLV.flatten(0, 1).float(), labels_BL.flatten(), ignore_index=-100, reduction="sum")
