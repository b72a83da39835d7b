"""Tokens that lie above a bar."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.generation.samplers.distribution import entropy, keep, keep_best


def min_p(logits_BV: Tensor, min_p: float) -> Tensor:
    """Tokens at least min_p times as likely as the most likely one (arXiv 2407.01082)."""
    return keep(logits_BV, logits_BV >= logits_BV.amax(dim=-1, keepdim=True) + math.log(min_p))


def top_n_sigma(logits_BV: Tensor, n: float) -> Tensor:
    """Logits at most n standard deviations below the highest (arXiv 2411.07641): those of the population of tokens that remain."""
    finite = logits_BV > -torch.inf
    count = finite.sum(dim=-1, keepdim=True)
    mean = logits_BV.where(finite, 0).sum(dim=-1, keepdim=True) / count
    sigma = ((logits_BV - mean).where(finite, 0).square().sum(dim=-1, keepdim=True) / count).sqrt()
    return keep(logits_BV, logits_BV >= logits_BV.amax(dim=-1, keepdim=True) - n * sigma)


def epsilon(logits_BV: Tensor, cutoff: float) -> Tensor:
    """Tokens of at least this probability (arXiv 2210.15191)."""
    return keep_best(logits_BV, logits_BV.softmax(dim=-1) >= cutoff)


def eta(logits_BV: Tensor, cutoff: float) -> Tensor:
    """Tokens of a probability of at least min(eta, sqrt(eta) exp(-H)): lower where all are unlikely (arXiv 2210.15191)."""
    log_p = logits_BV.log_softmax(dim=-1)
    return keep_best(logits_BV, log_p.exp() >= (math.sqrt(cutoff) * (-entropy(log_p)).exp()).clamp(max=cutoff))


def p_less(logits_BV: Tensor) -> Tensor:
    """Tokens at least as likely as two draws are to be the same (arXiv 2509.23234): p >= c, the sum of p^2."""
    p = logits_BV.softmax(dim=-1)
    return keep_best(logits_BV, p >= p.square().sum(dim=-1, keepdim=True))


def p_less_norm(logits_BV: Tensor) -> Tensor:
    """A lower bar: p >= (c n - 1) / (n - 1) for the n tokens that remain, 0 where they are equally likely (arXiv 2509.23234)."""
    p = logits_BV.softmax(dim=-1)
    n = (logits_BV > -torch.inf).sum(dim=-1, keepdim=True)
    collision = p.square().sum(dim=-1, keepdim=True)
    return keep_best(logits_BV, p >= (collision * n - 1) / (n - 1).clamp(min=1))
