"""How much of a model is trained."""

from __future__ import annotations

from torch import nn

from harness.runs.result import Parameters


def count_parameters(model: nn.Module) -> Parameters:
    """Size of the model, and of what is trained of it."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return Parameters(trained=sum(size for size, trained in sizes if trained), total=sum(size for size, _ in sizes))
