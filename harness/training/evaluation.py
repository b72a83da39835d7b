"""What is measured on fixed sets of unpacked windows and of multiple-choice questions: the same for every trial whatever its packing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import PreTrainedModel

from harness.data.prompt import prompt_ids
from harness.models.adapters.soft_prompt import prompt_length
from harness.runs.metric_names import position_buckets
from harness.training import ranks

if TYPE_CHECKING:
    from harness.data.multiple_choice import MultipleChoiceSet
    from harness.data.ragged import Int64
    from harness.data.validation import ValidationSet

Float64 = NDArray[np.float64]
Precision = Callable[[], AbstractContextManager[None]]
Advance = Callable[[int], None]
"""Called after each batch with its number of predictions or choices."""


def evaluate(
    model: PreTrainedModel,
    validation: ValidationSet,
    *,
    batch_tokens: int,
    precision: Precision = nullcontext,
    advance: Advance = lambda done: None,
) -> dict[str, float]:
    """Mean loss of a validation set: {"loss": nats per predicted token, "bits_per_byte": …}, and loss/tokens_0_63, … where they are wanted.

    Dropout is off and the model's mode is restored. The ranks divide the batches among them; the result does not depend on their number.
    """

    def sums_by_position(batch: tuple[Int64, Int64]) -> tuple[Float64, Int64]:
        input_ids, labels = batch
        # In float64: that the parts add up to the whole must not depend on how they were batched.
        return _losses(model, input_ids, labels).sum(axis=0), (labels >= 0).sum(axis=0)

    nats, predicted = np.zeros(validation.context_length), np.zeros(validation.context_length, dtype=np.int64)
    with _evaluating(model, precision):
        for nats_L, predicted_L in ranks.shared_out(validation.batches(batch_tokens), sums_by_position):
            nats[: len(nats_L)] += nats_L
            predicted[: len(nats_L)] += predicted_L
            advance(int(predicted_L.sum()))
    total = math.fsum(nats)
    values = {"loss": total / validation.predicted_tokens, "bits_per_byte": total / math.log(2) / validation.bytes}
    if validation.by_position:
        for name, start, stop in position_buckets(validation.context_length):
            if tokens := int(predicted[start:stop].sum()):
                values[f"loss/{name}"] = math.fsum(nats[start:stop]) / tokens
    return values


def evaluate_choices(
    model: PreTrainedModel,
    choices: MultipleChoiceSet,
    *,
    batch_tokens: int,
    precision: Precision = nullcontext,
    advance: Advance = lambda done: None,
) -> dict[str, float]:
    """Shares of the questions whose right choice is the most likely one, and the likelihood of the right ones.

    accuracy: by the sum of the log-likelihoods of a choice's tokens given the question; accuracy_per_byte: by that sum divided by the
    choice's UTF-8 bytes (acc and acc_norm of EleutherAI's lm-evaluation-harness, which divides by characters); answer_bits_per_byte: bits
    of all right choices over their bytes. Of equal choices the first counts as chosen.
    """

    def log_likelihoods(batch: tuple[Int64, Int64, Int64]) -> tuple[Int64, Float64]:
        indices, input_ids, labels = batch
        return indices, -_losses(model, input_ids, labels).sum(axis=1)

    log_likelihood = np.zeros(len(choices.lengths))
    with _evaluating(model, precision):
        for indices, found in ranks.shared_out(choices.batches(batch_tokens), log_likelihoods):
            log_likelihood[indices] = found
            advance(len(indices))
    bits = -math.fsum(log_likelihood[choices.answers]) / math.log(2)
    return {
        "accuracy": _share_right(log_likelihood, choices),
        "accuracy_per_byte": _share_right(log_likelihood / choices.choice_bytes, choices),
        "answer_bits_per_byte": bits / float(choices.choice_bytes[choices.answers].sum()),
    }


def _share_right(score: Float64, choices: MultipleChoiceSet) -> float:
    first = choices.first_choice
    chosen = [start + int(np.argmax(score[start:stop])) for start, stop in zip(first[:-1].tolist(), first[1:].tolist(), strict=True)]
    return float(np.mean(np.array(chosen) == choices.answers))


@contextmanager
def _evaluating(model: PreTrainedModel, precision: Precision) -> Iterator[None]:
    training = model.training
    model.train(False)
    try:
        with torch.no_grad(), precision():
            yield
    finally:
        model.train(training)


def _losses(model: PreTrainedModel, input_ids: NDArray[np.int64], labels: NDArray[np.int64]) -> Float64:
    """Nats of every label, 0 where it is -100: float64 [b, l]. Args: int64 [b, l] both, labels shifted already."""
    # A soft prompt belongs before every text, here as in training: what is predicted stays the same, and what it is predicted from.
    prompt = prompt_length(model)
    positions = np.broadcast_to(np.arange(prompt, dtype=np.int64), (len(input_ids), prompt))
    given = torch.from_numpy(np.hstack([prompt_ids(positions), input_ids])).to(model.device)
    # Padding is on the right, where causal attention does not look: no mask needed.
    logits_BLV = model(input_ids=given, use_cache=False).logits[:, prompt:]
    labels_BL = torch.from_numpy(labels).to(model.device)
    losses = F.cross_entropy(logits_BLV.flatten(0, 1).float(), labels_BL.flatten(), ignore_index=-100, reduction="none")
    found: Float64 = losses.view(labels_BL.shape).cpu().double().numpy()
    return found
