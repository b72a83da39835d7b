"""The Lightning module that all objectives share."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from transformers import PreTrainedModel

from harness.config.schema import Config
from harness.optim.build import build_optimizer
from harness.optim.per_step import set_step
from harness.training.plan import Plan

Batch = dict[str, Tensor]


class TrainingModule(LightningModule):
    """A causal language model under training; a subclass says what its loss is.

    The loss of a step is the sum over its predicted tokens divided by their number, counted over all micro-batches: their size does not
    change it.
    """

    def __init__(self, model: PreTrainedModel, config: Config, plan: Plan) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.plan = plan
        self._loss_sums: list[Tensor] = []
        """Summed losses of the micro-batches since the step began: float32 [], in nats."""

    @abstractmethod
    def loss_sum(self, batch: Batch) -> Tensor:
        """Summed loss over the predicted tokens of a micro-batch: float32 [], in nats."""

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        loss_sum = self.loss_sum(batch)
        self._loss_sums.append(loss_sum.detach())
        # Lightning divides by the number of micro-batches: undone here.
        return loss_sum * (self.plan.accumulation / float(self.plan.targets[self.global_step]))

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        if batch_index % self.plan.accumulation == 0:
            self._loss_sums.clear()
            settings = self.plan.settings(self.global_step)
            for optimizer in self.trainer.optimizers:
                set_step(optimizer, settings)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.config.optim, self.model)

    def step_loss(self) -> float:
        """Loss of the step that just ended, in nats per predicted token."""
        return math.fsum(torch.stack(self._loss_sums).tolist()) / float(self.plan.targets[self.global_step - 1])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on at the checkpoint's step, and let Lightning start its loops afresh.

        It counts batches within an epoch of the loader it saw when it saved. Ours begins at the step, so that with those counts an epoch
        would end too early, and the next one would begin with rows that were trained already.
        """
        checkpoint.pop("loops", None)
        progress = self.trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress
        progress.optimizer.step.total.completed = checkpoint["global_step"]
