"""What samplers ask of a distribution."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.generation.samplers.rounding import Rounding


def keep(logits_BV: Tensor, score_BV: Tensor, bar_B1: Tensor, rounding: Rounding | None) -> Tensor:
    """The logits, with -inf where the score (in nats) is below the bar; with `rounding`, where it certainly is."""
    kept = score_BV >= bar_B1 if rounding is None else rounding.possible(logits_BV, score_BV, bar_B1, bar_B1)
    return logits_BV.masked_fill(~kept, -torch.inf)


def keep_best(logits_BV: Tensor, score_BV: Tensor, bar_B1: Tensor, rounding: Rounding | None) -> Tensor:
    """The same, but the most likely tokens stay: no bar, and no rounding of one, removes everything."""
    best = score_BV.topk(min(2, score_BV.shape[1]), dim=-1).values
    return keep(logits_BV, score_BV, bar_B1.minimum(between(best[:, :1], best[:, -1:])), rounding)


def between(upper: Tensor, lower: Tensor) -> Tensor:
    """Halfway; never above `upper`."""
    return upper.minimum(lower + (upper - lower) / 2).where(lower > -torch.inf, lower)


def entropy(log_p_BV: Tensor) -> Tensor:
    """In nats, [B, 1], of log-probabilities."""
    terms: Tensor = torch.special.entr(log_p_BV.exp())
    return terms.sum(dim=-1, keepdim=True)
