"""Tokens that lie above a bar."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.generation.samplers.distribution import entropy, keep_best
from harness.generation.samplers.rounding import Rounding


def min_p(logits_BV: Tensor, min_p: float, rounding: Rounding | None = None) -> Tensor:
    """Tokens at least min_p times as likely as the most likely one (arXiv 2407.01082)."""
    return keep_best(logits_BV, logits_BV, logits_BV.amax(dim=-1, keepdim=True) + math.log(min_p), rounding)


def top_n_sigma(logits_BV: Tensor, n: float, rounding: Rounding | None = None) -> Tensor:
    """Logits at most n standard deviations below the highest (arXiv 2411.07641): those of the population of tokens that remain."""
    finite = logits_BV > -torch.inf
    count = finite.sum(dim=-1, keepdim=True)
    mean = logits_BV.where(finite, 0).sum(dim=-1, keepdim=True) / count
    sigma = ((logits_BV - mean).where(finite, 0).square().sum(dim=-1, keepdim=True) / count).sqrt()
    return keep_best(logits_BV, logits_BV, logits_BV.amax(dim=-1, keepdim=True) - n * sigma, rounding)


def epsilon(logits_BV: Tensor, cutoff: float, rounding: Rounding | None = None) -> Tensor:
    """Tokens of at least this probability (arXiv 2210.15191)."""
    log_p = logits_BV.log_softmax(dim=-1)
    return keep_best(logits_BV, log_p, torch.full_like(log_p[:, :1], math.log(cutoff)), rounding)


def eta(logits_BV: Tensor, cutoff: float, rounding: Rounding | None = None) -> Tensor:
    """Tokens of a probability of at least min(eta, sqrt(eta) exp(-H)): lower where all are unlikely (arXiv 2210.15191)."""
    log_p = logits_BV.log_softmax(dim=-1)
    return keep_best(logits_BV, log_p, (math.log(cutoff) / 2 - entropy(log_p)).clamp(max=math.log(cutoff)), rounding)


def p_less(logits_BV: Tensor, rounding: Rounding | None = None) -> Tensor:
    """Tokens at least as likely as two draws are to be the same (arXiv 2509.23234): p >= c, the sum of p^2."""
    log_p = logits_BV.log_softmax(dim=-1)
    return keep_best(logits_BV, log_p, (2 * log_p).logsumexp(dim=-1, keepdim=True), rounding)


def p_less_norm(logits_BV: Tensor, rounding: Rounding | None = None) -> Tensor:
    """A lower bar: p >= (c n - 1) / (n - 1) for the n tokens that remain, 0 where they are equally likely (arXiv 2509.23234)."""
    log_p = logits_BV.log_softmax(dim=-1)
    n = (logits_BV > -torch.inf).sum(dim=-1, keepdim=True)
    collision = (2 * log_p).exp().sum(dim=-1, keepdim=True)
    return keep_best(logits_BV, log_p, ((collision * n - 1) / (n - 1).clamp(min=1)).clamp(min=0).log(), rounding)
