"""Log-probabilities of whole answers, of packed rows that hold them one after the other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from harness.training.losses import chunked
from harness.training.predictions import Batch, is_trained, predict


def answer_logps(model: PreTrainedModel, batch: Batch, *, chunk: int | None) -> tuple[Tensor, Tensor]:
    """The log-probability of each answer, summed over its trained tokens, float32 [A]; and the cross-entropy of what else is trained in
    the rows, summed, float32 []. In nats.

    batch: as of PackedRows, with `answer_tokens` (int64 [A]) and `holds_answers` (bool [B]); chunk: trainer.loss_chunk_tokens.
    """
    trained_BL = is_trained(batch)
    predicted = predict(model, batch, trained_BL, in_chunks=chunk is not None)

    def log_probabilities(rows: Tensor, labels_N: Tensor) -> Tensor:
        return -F.cross_entropy(predicted.to_logits(rows).float(), labels_N, reduction="none")

    logps_N = chunked(log_probabilities, predicted.rows, batch["labels"][trained_BL], chunk=chunk)
    of_answers_N = batch["holds_answers"][:, None].expand_as(trained_BL)[trained_BL]
    others = -logps_N[~of_answers_N].sum()
    lengths_A = batch["answer_tokens"]
    if len(lengths_A) == 0:
        return logps_N.new_zeros(0), others
    # Answers lie one after the other, as the trained tokens do; each is summed in their order, on any device.
    sums: Tensor = torch.segment_reduce(logps_N[of_answers_N], "sum", lengths=lengths_A)
    return sums, others
