"""From the configuration to an optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from harness.config.errors import InputError
from harness.config.schema import OptimConfig
from harness.optim.groups import Group, Roles, group, roles

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


def parameter_groups(config: OptimConfig, model: nn.Module) -> list[Group]:
    """The groups of `config.name` over the trainable parameters of `model`; the first one has the schedule's own rate.

    Raises InputError where the optimizer is for weights that the model does not train.
    """
    found = roles(model)
    match config.name:
        case "adamw" | "lion" | "schedule_free":
            groups = [group(found.matrices, weight_decay=config.weight_decay), group(found.rest, weight_decay=None)]
        case "muon":
            _refuse_without_hidden(config, found)
            ratio = config.adamw_lr_ratio
            adamw = {"use_muon": False, "betas": config.betas, "eps": config.eps}
            groups = [
                group(found.hidden, weight_decay=config.weight_decay, use_muon=True, momentum=config.momentum),
                group(found.other_matrices, weight_decay=config.weight_decay, lr_ratio=ratio, **adamw),
                group(found.rest, weight_decay=None, lr_ratio=ratio, **adamw),
            ]
        case "soap":
            _refuse_without_hidden(config, found)
            # Without a side to precondition, SOAP is Adam: one of a vocabulary would take the square of it.
            groups = [
                group(found.hidden, weight_decay=config.weight_decay, max_precondition_dim=config.max_preconditioned_size),
                group(found.other_matrices, weight_decay=config.weight_decay, max_precondition_dim=0),
                group(found.rest, weight_decay=None, max_precondition_dim=0),
            ]
        case _:
            assert_never(config.name)
    return [item for item in groups if item["params"]]


def _refuse_without_hidden(config: OptimConfig, found: Roles) -> None:
    if not found.hidden:
        raise InputError(f"optim.name={config.name}: no two-dimensional hidden weight is trained; valid: adamw, lion, schedule_free")


def build_optimizer(config: OptimConfig, model: nn.Module) -> Optimizer:
    """The optimizer over the trainable parameters of `model`; the schedule sets its rate before every step.

    Muon is pytorch_optimizer's: a single optimizer over both of its parts, as Lightning's loop wants it. torch.optim.Muon takes
    two-dimensional weights only, computes the same update (a test compares them), and orthogonalises one matrix at a time.
    """
    groups = parameter_groups(config, model)
    optimizer: Optimizer
    match config.name:
        case "adamw":
            from torch.optim import AdamW

            fused, foreach = config.implementation == "fused", config.implementation == "foreach"
            optimizer = AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=fused, foreach=foreach)
        case "muon":
            from pytorch_optimizer import Muon

            # The adjusted rate is Moonlight's 0.2 * sqrt(longer side): updates as large as AdamW's, whatever the shape of a matrix.
            optimizer = Muon(groups, lr=config.lr, use_adjusted_lr=True)
        case "soap":
            from pytorch_optimizer import SOAP

            every = config.precondition_every_steps
            optimizer = SOAP(groups, lr=config.lr, betas=config.betas, eps=config.eps, precondition_frequency=every)
        case "lion":
            from pytorch_optimizer import Lion

            optimizer = Lion(groups, lr=config.lr, betas=config.betas)
        case "schedule_free":
            from pytorch_optimizer import ScheduleFreeAdamW

            optimizer = ScheduleFreeAdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps)
        case _:
            assert_never(config.name)
    return optimizer
