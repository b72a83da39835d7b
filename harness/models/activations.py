"""Gradient checkpointing: activations are computed again instead of being kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.config.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def checkpoint_activations(model: PreTrainedModel) -> None:
    """From now on the model's blocks keep only their inputs for the backward pass (Chen et al., arXiv 1604.06174); dropout is drawn again.

    Raises InputError for a model whose family cannot do so.
    """
    whole: Any = model
    # The former name is deprecated where there is the latter.
    enable = getattr(whole, "activation_checkpointing_enable", None) or whole.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise InputError(
            f"trainer.gradient_checkpointing=true: the model ({model.config.model_type}) cannot compute its activations again: {error}. "
            "Valid for it: false"
        ) from error
    # Only reentrant checkpointing needs embeddings with a gradient; it would be computed for nothing where they are frozen.
    whole.disable_input_require_grads()
