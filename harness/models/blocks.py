"""The repeated blocks of a transformer: what is compiled, and spread over ranks, one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """Those that transformers never splits over devices, of this model or of the one inside it (an adapter's); none where it names none."""
    names = {name for module in model.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    return [module for module in model.modules() if type(module).__name__ in names]
