"""Next-token prediction."""

from __future__ import annotations

from torch import Tensor
from transformers import PreTrainedModel

from harness.training.losses import chunked_sum, summed_cross_entropy
from harness.training.objectives.objective import Batch, Objective
from harness.training.predictions import is_trained, predict


class NextToken(Objective):
    """Next-token prediction on every token of a document (objective=cpt)."""

    def loss_sum(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        chunk = self.config.trainer.loss_chunk_tokens
        if chunk is None:
            logits_BLV = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
            return summed_cross_entropy(logits_BLV, batch["labels"])
        trained = is_trained(batch)
        predicted = predict(model, batch, trained, in_chunks=True)

        def loss(rows: Tensor, labels: Tensor) -> Tensor:
            return summed_cross_entropy(predicted.to_logits(rows), labels)

        return chunked_sum(loss, predicted.rows, batch["labels"][trained], chunk=chunk)


class Conversations(NextToken):
    """Next-token prediction on the tokens of conversations that data.loss_on names (objective=sft)."""

    documents = "conversations"
