"""The best tokens, up to a count, a mass or an entropy. All of a value stay or go together.

A vocabulary is not sorted where its best tokens suffice: a sort of 151,936 logits takes 15 times as long as finding the best 1,024.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.generation.samplers.distribution import between, entropy
from harness.generation.samplers.rounding import Rounding

BEST = 1024
"""Tokens that are looked at first; then 16 times as many, then all."""


def top_k(logits_BV: Tensor, k: int, rounding: Rounding | None = None) -> Tensor:
    """The k most likely tokens."""
    if k >= logits_BV.shape[1]:
        return logits_BV
    best = logits_BV.topk(k + 1, dim=-1).values
    count = torch.full_like(best[:, :1], k, dtype=torch.int64)
    return _keep_prefix(logits_BV, logits_BV, best, count, count, rounding)


def top_p(logits_BV: Tensor, mass: float, rounding: Rounding | None = None) -> Tensor:
    """The fewest most likely tokens that have this probability together (arXiv 1904.09751)."""
    return _fewest(logits_BV, logits_BV, logits_BV.log_softmax(dim=-1), mass, rounding)


def typical(logits_BV: Tensor, mass: float, rounding: Rounding | None = None) -> Tensor:
    """The fewest tokens of this probability together, those first whose surprise is nearest to the entropy (arXiv 2202.00666).

    The most likely token may go.
    """
    log_p = logits_BV.log_softmax(dim=-1)
    return _fewest(logits_BV, -(-log_p - entropy(log_p)).abs(), log_p, mass, rounding)


def top_h(logits_BV: Tensor, share: float, rounding: Rounding | None = None) -> Tensor:
    """The most likely tokens, as long as the entropy among them is at most this share of the whole (arXiv 2509.02510)."""
    log_p = logits_BV.log_softmax(dim=-1)
    most = share * entropy(log_p)

    def entropy_left(order_BK: Tensor) -> Tensor:
        best = log_p.gather(1, order_BK)
        mass = best.exp().cumsum(dim=-1)
        # H of a prefix of mass M: ln M + (sum of -p ln p) / M.
        entropy_among = mass.log() + torch.special.entr(best.exp()).cumsum(dim=-1) / mass
        entropy_among[:, 0] = 0  # but for rounding
        left: Tensor = most - entropy_among
        return left

    return _prefix(logits_BV, logits_BV, entropy_left, rounding)


def _fewest(logits_BV: Tensor, score_BV: Tensor, log_p_BV: Tensor, mass: float, rounding: Rounding | None) -> Tensor:
    """The fewest tokens of highest score with this probability together."""

    def mass_left(order_BK: Tensor) -> Tensor:
        p = log_p_BV.gather(1, order_BK).exp()
        left: Tensor = mass - (p.cumsum(dim=-1) - p)  # so much lies before it
        return left.masked_fill_(left == 0, -torch.finfo(left.dtype).tiny)  # all of it: no more is needed

    return _prefix(logits_BV, score_BV, mass_left, rounding)


def _prefix(logits_BV: Tensor, score_BV: Tensor, left: Callable[[Tensor], Tensor], rounding: Rounding | None) -> Tensor:
    """The tokens that score at least as high as the last for which something is left.

    left: for tokens of each row in descending order of score, int64 [B, K], what is left for each, [B, K]: falling, and at least 0 where a
    token belongs. The first always does.
    """
    size = score_BV.shape[1]
    width = 0.0 if rounding is None else rounding.width_B1
    for best in (BEST, 16 * BEST, size):
        values, order = score_BV.topk(min(best, size), dim=-1)
        margin = left(order)
        if best >= size or not bool((margin[:, -1:] >= -width).any()):
            break
    most, least = ((margin >= -at).sum(dim=-1, keepdim=True).clamp(min=1) for at in (width, -width))
    return _keep_prefix(logits_BV, score_BV, values, most, least, rounding)


def _keep_prefix(
    logits_BV: Tensor, score_BV: Tensor, values_BK: Tensor, most_B1: Tensor, least_B1: Tensor, rounding: Rounding | None
) -> Tensor:
    """The best tokens, so many at most and at least (int64), which is the same without `rounding`. values: the highest scores, falling."""
    if rounding is None:
        kept = score_BV >= values_BK.gather(1, most_B1 - 1)
    else:
        values = torch.cat([values_BK, torch.full_like(values_BK[:, :1], -torch.inf)], dim=1)
        low, high = (between(values.gather(1, count - 1), values.gather(1, count)) for count in (most_B1, least_B1))
        # Of two that score alike the first may be enough, where it has more mass: not where the score is the logit.
        last, before = values.gather(1, least_B1 - 1), values.gather(1, (least_B1 - 2).clamp(min=0))
        is_tie = (least_B1 > 1) & (before - last < 2 * rounding.width_B1) & (score_BV is not logits_BV)
        high = (last + rounding.width_B1).where(is_tie, high)
        kept = rounding.possible(logits_BV, score_BV, low, high)
    return logits_BV.masked_fill(~kept, -torch.inf)
