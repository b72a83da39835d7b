"""XTC ("exclude top choices"): now and then without the best tokens, where others would do."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.generation.samplers.rounding import Rounding


def xtc(logits_BV: Tensor, threshold: float, acts_B: Tensor, rounding: Rounding | None = None) -> Tensor:
    """Of the tokens of at least this probability only the least likely stays, in rows where `acts` (bool) says so."""
    log_p, bar = logits_BV.log_softmax(dim=-1), math.log(threshold)

    def lowest(reached_BV: Tensor) -> Tensor:
        return log_p.masked_fill(~reached_BV, torch.inf).amin(dim=-1, keepdim=True)

    def after(least_B1: Tensor) -> Tensor:
        """The next one above it, which may be as likely."""
        is_tie = (log_p == least_B1).sum(dim=-1, keepdim=True) > 1
        return least_B1.where(is_tie, lowest(log_p > least_B1))

    if rounding is None:
        kept = log_p <= lowest(log_p >= bar)
    else:
        # The least likely may be that of a bar a little higher or lower, or the next one.
        width = rounding.width_B1
        upper, lower = lowest(log_p >= bar + width), lowest(log_p >= bar - width)
        ends = [((least + after(least)) / 2).where(acts_B[:, None], torch.inf) for least in (upper, lower)]
        kept = rounding.possible(logits_BV, -log_p, -ends[0], -ends[1])
    return logits_BV.masked_fill(~(kept | ~acts_B[:, None]), -torch.inf)
