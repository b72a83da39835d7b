"""The repeated blocks of a transformer: compiled and sharded one at a time, and the places between which steering acts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.config.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The modules that transformers never splits over devices, in this model or inside an adapter; none where it names none."""
    names = {name for module in model.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    return [module for module in model.modules() if type(module).__name__ in names]


def residual_blocks(model: PreTrainedModel) -> list[nn.Module]:
    """The blocks that read and write the residual stream, one behind the other: the one list of as many modules as the model has layers.

    Raises InputError for a model in which there is no such list, or more than one.
    """
    from torch import nn

    layers = int(model.config.get_text_config().num_hidden_layers)
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module) == layers}
    # Experts of a block may be as many.
    outermost = [module for name, module in lists.items() if not any(name.startswith(f"{other}.") for other in lists)]
    if len(outermost) != 1:
        problem = f"it has {len(outermost) or 'no'} lists of {layers} modules, where one would be its blocks"
        raise InputError(f"adapter=steering: not for this model ({model.config.model_type}): {problem}")
    return list(outermost[0])


def hidden_of(output: Any) -> Tensor:
    """The hidden states [B, T, H] in what a block returns: of some families (BLOOM, MPT, GPT-J) the first of several values."""
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden


def with_hidden(output: Any, hidden: Tensor) -> Any:
    """The same with other hidden states."""
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden
