"""XTC ("exclude top choices"): now and then without the best tokens, where others would do."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.generation.samplers.distribution import keep


def xtc(logits_BV: Tensor, threshold: float, acts_B: Tensor) -> Tensor:
    """Of the tokens of at least this probability only the least likely stays, in rows where `acts` (bool) says so."""
    p = logits_BV.softmax(dim=-1)
    least = p.masked_fill(p < threshold, torch.inf).amin(dim=-1, keepdim=True)
    return keep(logits_BV, (p <= least) | ~acts_B[:, None])
