"""What samplers ask of a distribution."""

from __future__ import annotations

import torch
from torch import Tensor


def keep(logits_BV: Tensor, kept_BV: Tensor) -> Tensor:
    """The logits, with -inf where `kept` (bool) is false."""
    return logits_BV.masked_fill(~kept_BV, -torch.inf)


def keep_best(logits_BV: Tensor, kept_BV: Tensor) -> Tensor:
    """The same, but the most likely tokens stay: no bar, and no rounding of one, removes everything."""
    return keep(logits_BV, kept_BV | (logits_BV == logits_BV.amax(dim=-1, keepdim=True)))


def entropy(log_p_BV: Tensor) -> Tensor:
    """In nats, [B, 1], of log-probabilities."""
    terms: Tensor = torch.special.entr(log_p_BV.exp())
    return terms.sum(dim=-1, keepdim=True)
