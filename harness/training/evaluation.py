"""Losses on fixed sets of unpacked windows, the same for every trial whatever its packing."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

from harness.training.losses import summed_cross_entropy

if TYPE_CHECKING:
    from harness.data.validation import ValidationSet


def evaluate(
    model: PreTrainedModel,
    validation: ValidationSet,
    *,
    batch_tokens: int,
    precision: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> dict[str, float]:
    """Mean loss of a validation set: {"loss": nats per predicted token, "bits_per_byte": …}.

    Dropout is off and the model's mode is restored.
    """
    sums: list[torch.Tensor] = []
    training = model.training
    model.train(False)
    try:
        with torch.no_grad(), precision():
            for input_ids, labels in validation.batches(batch_tokens):
                # Padding is on the right, where causal attention does not look: no mask needed.
                logits = model(input_ids=torch.from_numpy(input_ids).to(model.device), use_cache=False).logits
                sums.append(summed_cross_entropy(logits, torch.from_numpy(labels).to(model.device)))
    finally:
        model.train(training)
    nats = math.fsum(torch.stack(sums).tolist())
    return {"loss": nats / validation.predicted_tokens, "bits_per_byte": nats / math.log(2) / validation.bytes}
