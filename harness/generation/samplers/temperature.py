"""How flat the distribution is."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.generation.samplers.distribution import entropy
from harness.generation.samplers.rounding import Rounding

LOWEST = 1e-5
"""Where dynamic temperature reaches 0, the most likely token is all that is left."""
DEEPEST = 20.0
"""So far below the best, in nats, hardly any token is drawn: how steep the parabola is there."""


def temperature(logits_BV: Tensor, temperature: float, rounding: Rounding | None = None) -> Tensor:
    """Logits divided by it."""
    if rounding is not None:
        rounding.scale(1 / temperature)
    return logits_BV / temperature


def dynamic_temperature(logits_BV: Tensor, temperature: float, range: float, exponent: float, rounding: Rounding | None = None) -> Tensor:
    """Divided by low + (high - low) (H / ln n)^exponent: H is the entropy over the n tokens that remain; low and high lie `range` apart
    from the temperature, low not below 0."""
    log_p = logits_BV.log_softmax(dim=-1)
    most = (logits_BV > -torch.inf).sum(dim=-1, keepdim=True).to(log_p.dtype).log()
    # One token has no entropy, nor could it have.
    share = (entropy(log_p) / most.clamp(min=torch.finfo(log_p.dtype).tiny)).clamp(max=1)
    low, high = max(0.0, temperature - range), temperature + range
    own = (low + (high - low) * share**exponent).clamp(min=LOWEST)
    if rounding is not None:
        rounding.scale(1 / own)
    return logits_BV / own


def quadratic(logits_BV: Tensor, factor: float, curve: float, rounding: Rounding | None = None) -> Tensor:
    """-factor ((3 - curve)/2 d^2 + (curve - 1)/2 d^3), for a logit d below the highest."""
    if rounding is not None:
        rounding.scale(2 * math.sqrt(factor * DEEPEST))
    below = logits_BV.amax(dim=-1, keepdim=True) - logits_BV
    bent = (3 - curve) / 2 * below.square()
    if curve != 1:  # 0 * inf
        bent = bent + (curve - 1) / 2 * below**3
    return (-factor * bent).masked_fill(logits_BV == -torch.inf, -torch.inf)
