"""Next-token prediction."""

from __future__ import annotations

from torch import Tensor

from harness.training.losses import chunked_sum, summed_cross_entropy
from harness.training.module import Batch, TrainingModule
from harness.training.predictions import is_trained, predict


class NextToken(TrainingModule):
    """Next-token prediction on every token of a document (objective=cpt), or on those that its labels keep (objective=sft)."""

    def loss_sum(self, batch: Batch) -> Tensor:
        chunk = self.config.trainer.loss_chunk_tokens
        if chunk is None:
            logits_BLV = self.model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
            return summed_cross_entropy(logits_BLV, batch["labels"])
        trained = is_trained(batch)
        predicted = predict(self.model, batch, trained, in_chunks=True)

        def loss(rows: Tensor, labels: Tensor) -> Tensor:
            return summed_cross_entropy(predicted.to_logits(rows), labels)

        return chunked_sum(loss, predicted.rows, batch["labels"][trained], chunk=chunk)
