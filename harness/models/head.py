"""A causal language model in two parts, so that logits can be computed in chunks of positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.config.errors import InputError
from harness.models.vocabulary import vocabulary_size

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

TOLERANCE = 1e-4
"""Of logits relative to the largest: parts agree with the whole up to rounding (about 1e-7), or differ by a cap or a factor."""


def hidden_states(model: PreTrainedModel, input_ids: Tensor, position_ids: Tensor) -> Tensor:
    """The head's input: [B, L, D], for input_ids and position_ids int64 [B, L]."""
    whole: Any = model
    hidden: Tensor = whole.get_decoder()(input_ids=input_ids, position_ids=position_ids, use_cache=False).last_hidden_state
    return hidden


def head_of(model: PreTrainedModel) -> Any:
    """The module from hidden states [..., D] to logits [..., V]."""
    whole: Any = model
    return whole.get_output_embeddings()


def refuse_indivisible_model(model: PreTrainedModel, key: str) -> None:
    """Raise InputError, naming the configuration `key` that asks for it, if the model does more than to apply its head to hidden states.

    Some families scale logits or cap them softly (gemma2, granite, cohere). Logits of both ways are compared.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(vocabulary_size(model), (1, 8), generator=generator).to(model.device)
    positions = torch.arange(8, device=model.device)[None]
    training = model.training
    model.train(False)
    try:
        with torch.no_grad():
            whole = model(input_ids=input_ids, position_ids=positions, use_cache=False).logits.double()
            try:
                parts = head_of(model)(hidden_states(model, input_ids, positions)).double()
            except (AttributeError, TypeError, RuntimeError) as error:
                raise _refused(model, key, "its logits are not a head's on hidden states") from error
    finally:
        model.train(training)
    if parts.shape != whole.shape or float((parts - whole).abs().max()) > TOLERANCE * float(whole.abs().max()):
        raise _refused(model, key, "it scales or caps its logits after the head")


def _refused(model: PreTrainedModel, key: str, why: str) -> InputError:
    return InputError(f"{key}: the loss of this model ({model.config.model_type}) cannot be computed in chunks: {why}. Valid for it: null")
