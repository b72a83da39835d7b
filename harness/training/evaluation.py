"""Losses on fixed sets of unpacked windows, the same for every trial whatever its packing."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

from harness.training.module import summed_cross_entropy

if TYPE_CHECKING:
    from harness.data.validation import ValidationSet


def evaluate(
    model: PreTrainedModel,
    validation: ValidationSet,
    *,
    batch_tokens: int,
    precision: Callable[[], AbstractContextManager[None]],
    rank: int = 0,
    world_size: int = 1,
    reduce: Callable[[torch.Tensor], torch.Tensor] = lambda total: total,
) -> dict[str, float]:
    """Mean loss of a validation set: {"loss": nats per predicted token, "bits_per_byte": …}.

    Ranks share the batches; `reduce` sums over them. Dropout is off and the model's mode is restored.
    """
    total = torch.zeros((), dtype=torch.float64, device=model.device)
    training = model.training
    model.train(False)
    try:
        with torch.no_grad(), precision():
            for index, (input_ids, labels) in enumerate(validation.batches(batch_tokens)):
                if index % world_size == rank:
                    # Padding is on the right, where causal attention does not look: no mask needed.
                    logits = model(input_ids=torch.from_numpy(input_ids).to(model.device), use_cache=False).logits
                    total += summed_cross_entropy(logits, torch.from_numpy(labels).to(model.device))
    finally:
        model.train(training)
    nats = float(reduce(total))
    return {"loss": nats / validation.predicted_tokens, "bits_per_byte": nats / math.log(2) / validation.bytes}
