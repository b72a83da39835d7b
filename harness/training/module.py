"""The Lightning module that all objectives share, and the objective of continued pretraining."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, assert_never

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor
from transformers import PreTrainedModel

from harness.config.schema import Config
from harness.optim.build import build_optimizer
from harness.schedule.learning_rate import learning_rate
from harness.training.plan import Plan

Batch = dict[str, Tensor]


class TrainingModule(LightningModule):
    """A causal language model under training; a subclass says what its loss is.

    The loss of a step is the sum over its predicted tokens divided by their number, counted over all micro-batches and ranks: neither
    the micro-batch size nor the number of devices changes it.
    """

    def __init__(self, model: PreTrainedModel, config: Config, plan: Plan) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.plan = plan
        self.register_buffer("step_loss_sum", torch.zeros((), dtype=torch.float64), persistent=False)
        self.step_loss_sum: Tensor
        """float64 []: summed loss of this rank's micro-batches since the step began, in nats."""

    @abstractmethod
    def loss_sum(self, batch: Batch) -> Tensor:
        """Summed loss over the predicted tokens of a micro-batch: float32 [], in nats."""

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        loss_sum = self.loss_sum(batch)
        self.step_loss_sum += loss_sum.detach()
        # Lightning divides by the number of micro-batches and DDP averages over ranks: both are undone here.
        scale = self.plan.accumulation * self.plan.world_size / float(self.plan.targets[self.global_step])
        return loss_sum * scale

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        if batch_index % self.plan.accumulation == 0:
            self.step_loss_sum.zero_()
            rate = learning_rate(self.plan.schedule, self.global_step)
            for optimizer in self.trainer.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.config.optim, self.model)

    def reduced_step_loss(self) -> float:
        """Loss of the step that just ended, over all ranks, in nats per predicted token."""
        total = self.trainer.strategy.reduce(self.step_loss_sum.clone(), reduce_op="sum")
        return float(total) / float(self.plan.targets[self.global_step - 1])


class ContinuedPretraining(TrainingModule):
    """Next-token prediction on every token of a document (objective=cpt), or on those that its labels keep (objective=sft)."""

    def loss_sum(self, batch: Batch) -> Tensor:
        logits_BLV = self.model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
        return summed_cross_entropy(logits_BLV, batch["labels"])


def summed_cross_entropy(logits_BLV: Tensor, labels_BL: Tensor) -> Tensor:
    """Cross-entropy summed over positions whose label is not -100; labels are already shifted: float32 [], in nats."""
    return F.cross_entropy(logits_BLV.flatten(0, 1).float(), labels_BL.flatten(), ignore_index=-100, reduction="sum")


def build_module(model: PreTrainedModel, config: Config, plan: Plan) -> TrainingModule:
    """The module of `config.objective`."""
    match config.objective.name:
        case "cpt" | "sft":
            return ContinuedPretraining(model, config, plan)
        case _:
            assert_never(config.objective.name)


def to_tensors(batch: dict[str, Any], device: torch.device) -> Batch:
    return {key: torch.as_tensor(value).to(device, non_blocking=True) for key, value in batch.items()}
