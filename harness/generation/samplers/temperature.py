"""How flat the distribution is."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.generation.samplers.distribution import entropy

LOWEST = 1e-5
"""Where dynamic temperature reaches 0, the most likely token is all that is left."""


def temperature(logits_BV: Tensor, temperature: float) -> Tensor:
    """Logits divided by it."""
    return logits_BV / temperature


def dynamic_temperature(logits_BV: Tensor, temperature: float, range: float, exponent: float) -> Tensor:
    """Divided by low + (high - low) (H / ln n)^exponent: H is the entropy over the n tokens that remain; low and high lie `range` apart
    from the temperature, low not below 0."""
    log_p = logits_BV.log_softmax(dim=-1)
    most = (logits_BV > -torch.inf).sum(dim=-1, keepdim=True).to(log_p.dtype).log()
    # One token has no entropy, nor could it have.
    share = (entropy(log_p) / most.clamp(min=torch.finfo(log_p.dtype).tiny)).clamp(max=1)
    low, high = max(0.0, temperature - range), temperature + range
    return logits_BV / (low + (high - low) * share**exponent).clamp(min=LOWEST)


def quadratic(logits_BV: Tensor, factor: float, curve: float) -> Tensor:
    """-factor ((3 - curve)/2 d^2 + (curve - 1)/2 d^3), for a logit d below the highest."""
    below = logits_BV.amax(dim=-1, keepdim=True) - logits_BV
    bent = (3 - curve) / 2 * below.square()
    if curve != 1:  # 0 * inf
        bent = bent + (curve - 1) / 2 * below**3
    return (-factor * bent).masked_fill(logits_BV == -torch.inf, -torch.inf)
