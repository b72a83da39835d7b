"""Averages of the weights, which are evaluated and exported in place of the weights under training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.optim import Optimizer

Weights = Mapping[nn.Parameter, Tensor]
"""What stands for each parameter, of its shape."""


class ExponentialAverage:
    """An exponential moving average of parameters, on their device, in float32: steps of 1 - decay would vanish in bfloat16."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.weights = {parameter: parameter.detach().float().clone() for parameter in parameters}

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Move towards the parameters as they are after `steps` steps.

        The decay is min(decay, (1 + steps) / (10 + steps)), as in tf.train.ExponentialMovingAverage: a short run is not the average of
        what it started from.
        """
        decay = min(self.decay, (1 + steps) / (10 + steps))
        averages = list(self.weights.values())
        torch._foreach_lerp_(averages, [parameter.detach().float() for parameter in self.weights], 1.0 - decay)

    @torch.no_grad()
    def load(self, weights: Weights) -> None:
        """Go on from an average that was kept; a parameter that has none there keeps the one it has."""
        for parameter, average in self.weights.items():
            if parameter in weights:
                average.copy_(weights[parameter])


@torch.no_grad()
def schedule_free_average(optimizer: Optimizer) -> dict[nn.Parameter, Tensor]:
    """The average x of a schedule-free optimizer: its weights are y = (1 - beta1) z + beta1 x, and it keeps z.

    Its own eval() and train() go from y to x and back within the weights, which leaves rounding errors behind.
    """
    average = {}
    for parameters in optimizer.param_groups:
        beta1, _ = parameters["betas"]
        for parameter in parameters["params"]:
            state = optimizer.state[parameter]
            average[parameter] = parameter.detach().lerp(state["z"], 1.0 - 1.0 / beta1) if "z" in state else parameter.detach().clone()
    return average


@contextmanager
def in_place_of_weights(weights: Weights) -> Iterator[None]:
    """The parameters hold `weights` inside, and afterwards the same bits as before. Takes room for a copy of them."""
    parameters = list(weights)
    kept = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter, average in weights.items():
            parameter.copy_(average)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, before in zip(parameters, kept, strict=True):
                parameter.copy_(before)
