"""The best tokens, up to a count, a mass or an entropy. All of a value stay or go together.

A vocabulary is not sorted where its best tokens suffice: a sort of 151,936 logits takes 15 times as long as finding the best 1,024.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.generation.samplers.distribution import entropy, keep

BEST = 1024
"""Tokens that are looked at first; then 16 times as many, then all."""


def top_k(logits_BV: Tensor, k: int) -> Tensor:
    """The k most likely tokens."""
    if k >= logits_BV.shape[1]:
        return logits_BV
    return keep(logits_BV, logits_BV >= logits_BV.topk(k, dim=-1).values[:, -1:])


def top_p(logits_BV: Tensor, mass: float) -> Tensor:
    """The fewest most likely tokens that have this probability together (arXiv 1904.09751)."""
    return keep(logits_BV, _fewest(logits_BV, logits_BV.log_softmax(dim=-1), mass))


def typical(logits_BV: Tensor, mass: float) -> Tensor:
    """The fewest tokens of this probability together, those first whose surprise is nearest to the entropy (arXiv 2202.00666).

    The most likely token may go.
    """
    log_p = logits_BV.log_softmax(dim=-1)
    return keep(logits_BV, _fewest(-(-log_p - entropy(log_p)).abs(), log_p, mass))


def top_h(logits_BV: Tensor, share: float) -> Tensor:
    """The most likely tokens, as long as the entropy among them is at most this share of the whole (arXiv 2509.02510)."""
    log_p = logits_BV.log_softmax(dim=-1)
    most = share * entropy(log_p)

    def few_enough(order_BK: Tensor) -> Tensor:
        best = log_p.gather(1, order_BK)
        mass = best.exp().cumsum(dim=-1)
        # H of a prefix of mass M: ln M + (sum of -p ln p) / M.
        entropy_among = mass.log() + torch.special.entr(best.exp()).cumsum(dim=-1) / mass
        entropy_among[:, 0] = 0  # but for rounding
        few: Tensor = entropy_among <= most
        return few

    return keep(logits_BV, _prefix(logits_BV, few_enough))


def _fewest(score_BV: Tensor, log_p_BV: Tensor, mass: float) -> Tensor:
    """Which tokens (bool) are the fewest of highest score with this probability together."""

    def still_needed(order_BK: Tensor) -> Tensor:
        p = log_p_BV.gather(1, order_BK).exp()
        return p.cumsum(dim=-1) - p < mass  # so much lies before it

    return _prefix(score_BV, still_needed)


def _prefix(score_BV: Tensor, belongs: Callable[[Tensor], Tensor]) -> Tensor:
    """Which tokens (bool) score at least as high as the last that belongs.

    belongs: for tokens of each row in descending order of score, int64 [B, K], whether each belongs, bool [B, K]: the first does, and none
    after one that does not.
    """
    size = score_BV.shape[1]
    for best in (BEST, 16 * BEST, size):
        values, order = score_BV.topk(min(best, size), dim=-1)
        belonging = belongs(order)
        if best >= size or not bool(belonging[:, -1].any()):
            break
    last = (belonging.sum(dim=-1, keepdim=True) - 1).clamp(min=0)
    return score_BV >= values.gather(1, last)
