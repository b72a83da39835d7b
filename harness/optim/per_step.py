"""The one place where what a plan says of a step is put into an optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.optim import Optimizer


@dataclass(frozen=True)
class StepSettings:
    """An optimizer's settings in one step."""

    lr: float
    betas: tuple[float, float]
    weight_decay: float


def set_step(optimizer: Optimizer, settings: StepSettings) -> None:
    """Have the next update of `optimizer` made with these settings.

    Groups that are not decayed stay so, and a group's rate keeps its ratio to the schedule's (see `harness.optim.groups`).
    """
    for group in optimizer.param_groups:
        group["lr"] = settings.lr * group["lr_ratio"]
        if group["is_decayed"]:
            group["weight_decay"] = settings.weight_decay
        if "betas" in group:
            group["betas"] = settings.betas
