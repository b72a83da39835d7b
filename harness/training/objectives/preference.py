"""Preference learning: answers that people, or a judge, prefer become more likely than those that they do not."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.config.schema import Config, beta_of, gamma_of, needs_reference, nll_weight_of
from harness.data.order import Float64
from harness.data.tokenization import Documents, Progress
from harness.data.training_data import TrainingData
from harness.models.fixed_model import refuse_other_ids
from harness.schedule.batch_size import BatchSize
from harness.training import ranks
from harness.training.answer_logps import answer_logps
from harness.training.base import adapter_off
from harness.training.objectives.objective import Batch, Objective
from harness.training.preference_losses import Answers, preference_losses
from harness.training.reference_logprobs import KEY, reference_fingerprint, with_reference

METRICS = ("rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected")
"""Means over the pairs of a step, by TRL's names. Rewards: objective.beta times the nats by which an answer is more likely than under the
reference (of kinds without one: its log-probability per token); accuracies: how often the chosen one has more, a tie counting half."""


class Preference(Objective):
    """The loss of objective.kind, a mean over the pairs of a step (objective=preference).

    Documents that are no pairs (replayed text, conversations) are trained by cross-entropy. Theirs weighs by tokens, as in every mixture:
    as many predictions as a pair has on average count as one pair, in the sum and in what it is divided by.
    """

    documents: ClassVar[Documents] = "pairs"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._sums: list[Tensor] = []
        """Of the micro-batches of a step, the sums over their pairs of what METRICS names, and their number: float32 [7]."""

    def begin_step(self, model: PreTrainedModel, data: TrainingData, start: int, stop: int) -> None:
        self._sums.clear()

    def step_metrics(self) -> dict[str, float]:
        sums = [ranks.summed(value) for value in torch.stack(self._sums).double().sum(dim=0).tolist()]
        return {name: value / sums[-1] for name, value in zip(METRICS, sums[:-1], strict=True)} if sums[-1] else {}

    def fingerprints(self) -> dict[str, str]:
        path = self.config.objective.reference
        return {} if path is None else {"reference": reference_fingerprint(self.config, path, key=KEY)}

    def prepare(self, data: TrainingData, tokenizer: Any, progress: Progress | None = None, *, rows: int | None = None) -> TrainingData:
        if not self._reads_before():
            return data
        self._refuse_another_vocabulary(data, tokenizer)
        return with_reference(self.config, data, tokenizer, progress, rows=rows, with_mismatched=self.documents == "answers")

    def _reads_before(self) -> bool:
        return needs_reference(self.config.objective) and self.config.objective.precompute_reference

    def _refuse_another_vocabulary(self, data: TrainingData, tokenizer: Any) -> None:
        if self.config.objective.reference is not None:
            refuse_other_ids(self.config.objective.reference, tokenizer, data.largest_id, key=KEY, what="reference")

    def prepared(self, data: TrainingData, rows: int | None) -> dict[str, dict[str, int]]:
        if not self._reads_before():
            return {}
        return {"reference": {self.documents: self._examples(data, rows)}}

    @staticmethod
    def _examples(data: TrainingData, rows: int | None) -> int:
        needed = data.rows_until(rows)
        return sum(int(source.row_examples[needed[source.name]].sum()) for source in data.sources)

    def weights(self, data: TrainingData, batch_size: BatchSize, steps: int) -> Float64:
        return data.examples_of(batch_size, steps)

    def loss_sum(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        objective = self.config.objective
        logps, others = answer_logps(model, batch, chunk=self.config.trainer.loss_chunk_tokens)
        reference = self._reference(model, batch) if needs_reference(objective) else torch.zeros_like(logps)
        chosen, rejected = (Answers(logps[i::2], reference[i::2], batch["answer_tokens"][i::2]) for i in (0, 1))
        self._count(chosen, rejected)
        assert objective.kind != "kto", "an objective of its own"
        losses = preference_losses(
            objective.kind,
            chosen,
            rejected,
            beta=beta_of(objective),
            gamma=gamma_of(objective),
            label_smoothing=objective.label_smoothing,
        )
        return (losses - nll_weight_of(objective) * chosen.mean_logps).sum() + others / batch["tokens_an_example"]

    def _reference(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """The log-probability of each answer under the reference, float32 [A], in nats."""
        if self.config.objective.precompute_reference:
            return batch["answer_reference"]
        with adapter_off(self.config, model):
            return answer_logps(model, batch, chunk=self.config.trainer.loss_chunk_tokens)[0]

    def _count(self, chosen: Answers, rejected: Answers) -> None:
        objective = self.config.objective
        compares = needs_reference(objective)
        gains = [(answers.shift if compares else answers.mean_logps).detach() for answers in (chosen, rejected)]
        rewards = [beta_of(objective) * gain for gain in gains]
        margins = rewards[0] - rewards[1]
        accuracies = (margins > 0) + 0.5 * (margins == 0)
        columns = [*rewards, accuracies, margins, chosen.logps.detach(), rejected.logps.detach(), torch.ones_like(margins)]
        self._sums.append(torch.stack(columns).sum(dim=1))
