"""The repeated blocks of a transformer, which are compiled and sharded one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The modules that transformers never splits over devices, in this model or inside an adapter; none where it names none."""
    names = {name for module in model.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    return [module for module in model.modules() if type(module).__name__ in names]
