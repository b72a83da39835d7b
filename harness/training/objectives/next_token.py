"""Next-token prediction."""

from __future__ import annotations

from torch import Tensor

from harness.training.losses import summed_cross_entropy
from harness.training.module import Batch, TrainingModule


class NextToken(TrainingModule):
    """Next-token prediction on every token of a document (objective=cpt), or on those that its labels keep (objective=sft)."""

    def loss_sum(self, batch: Batch) -> Tensor:
        logits_BLV = self.model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
        return summed_cross_entropy(logits_BLV, batch["labels"])
