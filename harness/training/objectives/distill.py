"""Distillation: the distribution of a teacher instead of, or beside, the tokens of the data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.config.schema import Config, beta_of
from harness.data.tokenization import Progress
from harness.data.training_data import TrainingData
from harness.models.teacher import distilled_ids, load_teacher, refuse_unknown_tokens
from harness.training.divergences import summed_divergence, summed_sampled_forward_kl
from harness.training.losses import chunked_sum, summed_cross_entropy
from harness.training.objectives.objective import Batch, Objective
from harness.training.predictions import is_trained, predict
from harness.training.sample_teacher import teacher_fingerprint, with_teacher_samples


class Distillation(Objective):
    """alpha * divergence from the teacher + (1 - alpha) * cross-entropy, on the tokens that cpt or sft would train (objective=distill).

    alpha = 1 learns from the teacher alone, alpha = 0 from the data alone. The distributions are over the tokens that both know: rows by
    which an embedding is longer take no part. The teacher computes beside the student, or its samples come with the data
    (objective.teacher_samples).
    """

    documents = "either"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._teacher: PreTrainedModel | None = None
        self._vocabulary = 0
        """Token ids that the distributions are over."""

    def fingerprints(self) -> dict[str, str]:
        return {"teacher": teacher_fingerprint(self.config)}

    def prepare(self, data: TrainingData, tokenizer: Any, progress: Progress | None = None, *, rows: int | None = None) -> TrainingData:
        refuse_unknown_tokens(self.config, tokenizer, data.largest_id)
        if self.config.objective.teacher_samples is None:
            return data
        return with_teacher_samples(self.config, data, tokenizer, progress, rows=rows)

    def prepared(self, data: TrainingData, rows: int | None) -> dict[str, dict[str, int]]:
        samples = self.config.objective.teacher_samples
        if samples is None:
            return {}
        needed = data.rows_until(rows)
        positions = sum(int(source.row_targets[needed[source.name]].sum()) for source in data.sources)
        return {"teacher": {"samples": samples, "positions": positions}}

    def load(self, model: PreTrainedModel, tokenizer: Any) -> None:
        super().load(model, tokenizer)
        self._vocabulary = distilled_ids(self.config, tokenizer)
        if self.config.objective.teacher_samples is None:
            self._teacher = load_teacher(self.config)

    def begin(self, model: PreTrainedModel) -> None:
        if self._teacher is not None:
            # In the student's own precision, which may be half.
            self._teacher.to(device=model.device, dtype=next(model.parameters()).dtype)  # type: ignore[call-arg]

    def loss_sum(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        objective, chunk = self.config.objective, self.config.trainer.loss_chunk_tokens
        in_chunks = chunk is not None
        trained = is_trained(batch)
        student = predict(model, batch, trained, in_chunks=in_chunks)

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
            teacher = predict(self._teacher, batch, trained, in_chunks=in_chunks)

        def live(rows: Tensor, labels_N: Tensor, teacher_rows: Tensor) -> Tensor:
            logits = student.to_logits(rows)
            known, wanted = logits[:, : self._vocabulary], teacher.to_logits(teacher_rows)[:, : self._vocabulary]
            divergence = summed_divergence(known, wanted, objective.divergence, temperature=objective.temperature, beta=beta_of(objective))
            return mixed(logits, labels_N, divergence)

        return chunked_sum(live, student.rows, labels_N, teacher.rows, chunk=chunk)
