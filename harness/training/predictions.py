"""What a model predicts at the trained positions of a micro-batch, whole or a chunk of positions at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.data.labels import IGNORED
from harness.models.head import head_of, hidden_states

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Predictions:
    """Rows that stand for logits, see `to_logits`."""

    rows: Tensor
    """[N, V or D]: logits, or the hidden states that they are made of."""
    to_logits: Callable[[Tensor], Tensor]
    """Some of the rows to their logits, [n, V]."""


def is_trained(batch: Batch) -> Tensor:
    """Which positions have a token to predict: bool [B, L]; N of them are true."""
    return batch["labels"] != IGNORED


def answers_by(labels_BT: Tensor) -> Tensor:
    """Which tokens are predicted: bool [B, T]. labels: int64 [B, T], of each token the next one, or IGNORED; shifted already."""
    mask_BT = torch.zeros_like(labels_BT, dtype=torch.bool)
    mask_BT[:, 1:] = labels_BT[:, :-1] != IGNORED
    return mask_BT


def predict(model: PreTrainedModel, batch: Batch, trained_BL: Tensor, *, in_chunks: bool) -> Predictions:
    """The model's predictions at the trained positions, in the order of the batch; in_chunks: as hidden states, logits to be made later."""
    input_ids, position_ids = batch["input_ids"], batch["position_ids"]
    if in_chunks:
        return Predictions(hidden_states(model, input_ids, position_ids)[trained_BL], head_of(model))
    logits_BLV = model(input_ids=input_ids, position_ids=position_ids, use_cache=False).logits
    return Predictions(logits_BLV[trained_BL], lambda rows: rows)
