"""Distillation: the distribution of a teacher instead of, or beside, the tokens of the data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.config.schema import Config
from harness.training.divergences import summed_divergence, summed_sampled_forward_kl
from harness.training.losses import chunked_sum, summed_cross_entropy
from harness.training.module import Batch, TrainingModule
from harness.training.plan import Plan
from harness.training.predictions import is_trained, predict


@dataclass(frozen=True)
class Teacher:
    """Keeps the teacher's parameters out of the student's module: neither the optimizer nor a checkpoint finds them."""

    model: PreTrainedModel


class Distillation(TrainingModule):
    """alpha * divergence from the teacher + (1 - alpha) * cross-entropy, on the tokens that cpt or sft would train (objective=distill).

    alpha = 1 learns from the teacher alone, alpha = 0 from the data alone. The distributions are over the tokenizer's tokens: rows by which
    an embedding is longer take no part.
    """

    def __init__(self, model: PreTrainedModel, config: Config, plan: Plan, teacher: PreTrainedModel | None, vocabulary: int) -> None:
        """Args: teacher, None where the plan's data hold samples of it; vocabulary, tokens of the tokenizer."""
        super().__init__(model, config, plan)
        self._teacher = None if teacher is None else Teacher(teacher)
        self._vocabulary = vocabulary

    def on_train_start(self) -> None:
        super().on_train_start()
        if self._teacher is not None:
            # Lightning knows nothing of it. In the student's own precision, which may be half.
            self._teacher.model.to(device=self.device, dtype=next(self.model.parameters()).dtype)  # type: ignore[call-arg]

    def loss_sum(self, batch: Batch) -> Tensor:
        objective, chunk = self.config.objective, self.config.trainer.loss_chunk_tokens
        in_chunks = chunk is not None
        trained = is_trained(batch)
        student = predict(self.model, batch, trained, in_chunks=in_chunks)

        def mixed(logits_NV: Tensor, labels_N: Tensor, divergence: Tensor) -> Tensor:
            if objective.alpha == 1:
                return divergence
            return objective.alpha * divergence + (1 - objective.alpha) * summed_cross_entropy(logits_NV, labels_N)

        labels_N = batch["labels"][trained]
        if self._teacher is None:

            def sampled(rows: Tensor, labels_N: Tensor, samples_NS: Tensor, entropy_N: Tensor) -> Tensor:
                logits = student.to_logits(rows)
                known = logits[:, : self._vocabulary]
                divergence = summed_sampled_forward_kl(known, samples_NS, entropy_N, temperature=objective.temperature)
                return mixed(logits, labels_N, divergence)

            samples, entropy = batch["teacher_samples"][trained], batch["teacher_entropy"][trained]
            return chunked_sum(sampled, student.rows, labels_N, samples, entropy, chunk=chunk)

        with torch.no_grad():
            teacher = predict(self._teacher.model, batch, trained, in_chunks=in_chunks)

        def live(rows: Tensor, labels_N: Tensor, teacher_rows: Tensor) -> Tensor:
            logits = student.to_logits(rows)
            known, wanted = logits[:, : self._vocabulary], teacher.to_logits(teacher_rows)[:, : self._vocabulary]
            divergence = summed_divergence(known, wanted, objective.divergence, temperature=objective.temperature, beta=objective.beta)
            return mixed(logits, labels_N, divergence)

        return chunked_sum(live, student.rows, labels_N, teacher.rows, chunk=chunk)
