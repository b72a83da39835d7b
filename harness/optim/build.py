"""From the configuration to an optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from harness.config.schema import OptimConfig

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: matrices decay; biases, norms and embeddings (tied ones too) do not."""
    from torch import nn

    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            (decayed if parameter.ndim >= 2 and id(parameter) not in embeddings else kept).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay, "is_decayed": True},
        {"params": kept, "weight_decay": 0.0, "is_decayed": False},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(config: OptimConfig, model: nn.Module) -> Optimizer:
    """The optimizer over the trainable parameters of `model`; the schedule sets its rate before every step."""
    import torch

    groups = parameter_groups(model, config.weight_decay)
    match config.name:
        case "adamw":
            # fused: one kernel over all parameters, on the CPU and on GPUs; the update is the same.
            return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)
        case _:
            assert_never(config.name)
