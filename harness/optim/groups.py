"""Which weights are updated how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

Group = dict[str, Any]


@dataclass(frozen=True)
class Roles:
    """The trainable parameters of a model by what they are, each in the model's order."""

    hidden: list[nn.Parameter]
    """Two-dimensional weights between the embeddings and the output layer: maps from one space of features to another."""
    other_matrices: list[nn.Parameter]
    """The output layer's own matrix, and weights of more dimensions (stacked experts)."""
    rest: list[nn.Parameter]
    """Biases, norms, and embeddings, also where they are tied to the output layer: their rows or entries stand for themselves."""

    @property
    def matrices(self) -> list[nn.Parameter]:
        """Everything that weight decay is for."""
        return [*self.hidden, *self.other_matrices]


def roles(model: nn.Module) -> Roles:
    """Every trainable parameter of `model`, once."""
    from torch import nn

    # What an adapter adds to an embedding (peft's layers have a base_layer) is made of embeddings as well.
    embeddings = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Embedding) or isinstance(getattr(module, "base_layer", None), nn.Embedding)
        for parameter in module.parameters()
    }
    find_output_layer: Callable[[], nn.Module | None] = getattr(model, "get_output_embeddings", lambda: None)
    output_layer = find_output_layer()
    output = {id(parameter) for parameter in output_layer.parameters()} if output_layer is not None else set()
    found = Roles([], [], [])
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim < 2 or id(parameter) in embeddings:
            found.rest.append(parameter)
        elif parameter.ndim > 2 or id(parameter) in output:
            found.other_matrices.append(parameter)
        else:
            found.hidden.append(parameter)
    return found


def group(parameters: list[nn.Parameter], *, weight_decay: float | None, lr_ratio: float = 1.0, **settings: Any) -> Group:
    """A parameter group for `set_step`: weight_decay None means never decayed; lr_ratio is its rate as a multiple of the schedule's."""
    decay = {"weight_decay": weight_decay or 0.0, "is_decayed": weight_decay is not None}
    return {"params": parameters, "lr_ratio": lr_ratio, **decay, **settings}
