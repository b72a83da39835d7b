"""KTO: answers that a label calls good become more likely, the others less, each by itself."""

from __future__ import annotations

import math
from contextlib import nullcontext
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.config.errors import InputError
from harness.config.schema import beta_of, nll_weight_of
from harness.data.order import Float64
from harness.data.tokenization import Documents
from harness.data.training_data import TrainingData
from harness.models.compiled import uncompiled
from harness.models.precision import forward_context
from harness.schedule.batch_size import BatchSize
from harness.training import ranks
from harness.training.answer_logps import answer_logps
from harness.training.base import adapter_off
from harness.training.evaluation import evaluated
from harness.training.mismatched import mismatched
from harness.training.objectives.objective import Batch
from harness.training.objectives.preference import Preference
from harness.training.preference_losses import Answers, kto_losses

LABELS = {"chosen": True, "rejected": False}
"""By TRL's names of the means that are logged."""


class Kto(Preference):
    """The loss of kto, a mean over the answers of a step (objective=preference, objective.kind=kto).

    How far the model has moved from its reference is measured once a step, before its first micro-batch: on the prompts of all its answers,
    each with the answer to another prompt. So the loss does not depend on how the step is cut.
    """

    documents: ClassVar[Documents] = "answers"

    def begin_step(self, model: PreTrainedModel, data: TrainingData, start: int, stop: int) -> None:
        super().begin_step(model, data, start, stop)
        trainer = self.config.trainer
        rows = trainer.micro_batch_size or max(1, (stop - start) // ranks.size())
        precision = partial(forward_context, trainer.precision, model.device.type)
        gains: list[float] = []
        with (
            uncompiled() if trainer.compile else nullcontext(),
            evaluated(model, batch_tokens=rows * data.context_length, precision=precision) as reading,
        ):
            for name, documents in data.documents_at(start, stop).items():
                source = next(source for source in data.sources if source.name == name)
                if source.documents.are_answers:
                    texts = mismatched(source, documents)
                    logps = texts.log_likelihoods(reading, lambda done: None)
                    if source.mismatched_reference is not None:
                        reference = source.mismatched_reference[documents]
                    else:
                        with adapter_off(self.config, model):
                            reference = texts.log_likelihoods(reading, lambda done: None)
                    gains += (logps - reference).tolist()
        self._divergence = max(0.0, math.fsum(gains) / len(gains)) if gains else 0.0
        """KL(model || reference) of a whole answer, estimated, at least 0: nats."""

    def weights(self, data: TrainingData, batch_size: BatchSize, steps: int) -> Float64:
        alone = (data.answers_of(batch_size, steps) == 1).nonzero()[0]
        if len(alone):
            trainer = self.config.trainer
            key = "batch_tokens" if trainer.batch_pairs is None else "batch_pairs"
            raise InputError(
                f"trainer.{key}={getattr(trainer, key)}: step {alone[0] + 1} has one answer alone, and objective.kind=kto compares the "
                "answers of a step with what others say of the model's distance from its reference; valid: larger steps, of at least two"
            )
        return super().weights(data, batch_size, steps)

    def loss_sum(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        objective = self.config.objective
        logps, others = answer_logps(model, batch, chunk=self.config.trainer.loss_chunk_tokens)
        labels = batch["answer_labels"]
        answers = Answers(logps, self._reference(model, batch), batch["answer_tokens"])
        losses = kto_losses(
            answers,
            labels,
            self._divergence,
            beta=beta_of(objective),
            desirable_weight=objective.desirable_weight,
            undesirable_weight=objective.undesirable_weight,
        )
        rewards, logps = beta_of(objective) * answers.shift.detach(), logps.detach()
        sums = [torch.stack([rewards, logps, torch.ones_like(logps)])[:, labels == label].sum(dim=1) for label in LABELS.values()]
        self._sums.append(torch.cat(sums))
        return (losses - nll_weight_of(objective) * answers.mean_logps * labels).sum() + others / batch["tokens_an_example"]

    def step_metrics(self) -> dict[str, float]:
        """TRL's names: means over the good (chosen) and the bad (rejected) answers of a step, where it has any; and kl, the divergence that
        they were compared with."""
        sums = [ranks.summed(value) for value in torch.stack(self._sums).double().sum(dim=0).tolist()]
        found = {"kl": self._divergence}
        for name, (reward, logp, count) in zip(LABELS, (sums[:3], sums[3:]), strict=True):
            if count:
                found |= {f"rewards/{name}": reward / count, f"logps/{name}": logp / count}
        if "rewards/chosen" in found and "rewards/rejected" in found:
            found["rewards/margins"] = found["rewards/chosen"] - found["rewards/rejected"]
        return found
