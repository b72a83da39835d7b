"""Does this very model keep packed documents apart? A probe, because several families do not and say nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.config.errors import InputError
from harness.models.vocabulary import vocabulary_size

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOLERANCE = 1e-4
"""Logits of an isolated document move by rounding only (about 1e-7); a leak moves them by more than 1e-2."""


def document_leak(model: PreTrainedModel) -> float:
    """The largest change of document 2's logits in a packed row when document 1 is replaced; 0 up to rounding where packing isolates.

    Documents are told apart the way training does it: by position ids that restart, no attention mask, no cache.
    """
    import torch

    vocabulary = vocabulary_size(model)
    length = 8
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(vocabulary, (2, 2 * length), generator=generator)
    rows[1, length:] = rows[0, length:]
    positions = torch.arange(length).repeat(2).expand(2, -1)
    training = model.training
    model.train(False)
    try:
        with torch.no_grad():
            logits = model(input_ids=rows.to(model.device), position_ids=positions.to(model.device), use_cache=False).logits.float()
    finally:
        model.train(training)
    return float((logits[0, length:] - logits[1, length:]).abs().max())


def refuse_leaking_model(model: PreTrainedModel, packing: str, *, which: str = "this model") -> None:
    """Raise InputError if packed documents see each other in this model, which is called `which`."""
    leak = document_leak(model)
    if leak > TOLERANCE:
        raise InputError(
            f"data.packing={packing}: documents of a row see each other in {which} ({model.config.model_type}: replacing one document "
            f"moves the next one's logits by {leak:.2g}). Valid for it: padded"
        )
