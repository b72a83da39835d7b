"""The Lightning module: one for all objectives."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from harness.config.errors import InputError
from harness.config.schema import Config
from harness.models.answer_tokens import telling_answers
from harness.models.blocks import blocks_of
from harness.optim.averages import ExponentialAverage, Weights, schedule_free_average
from harness.optim.build import build_optimizer
from harness.optim.per_step import set_step
from harness.training import ranks
from harness.training.non_finite import NonFiniteSteps, UpdateSkippedError, describe_rows
from harness.training.objectives.objective import Batch, Objective
from harness.training.plan import Plan
from harness.training.predictions import answers_by
from harness.training.shared_steps import trained_digest


class TrainingModule(LightningModule):
    """A causal language model under training.

    The loss of a step is the objective's sum over its trained tokens (pairs, …) divided by their number, counted over all micro-batches of
    all ranks: how they are divided does not change it.
    """

    def __init__(self, model: PreTrainedModel, config: Config, plan: Plan, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.config = config
        self.plan = plan
        self.non_finite = NonFiniteSteps(config.trainer.non_finite, config.trainer.max_skipped_steps)
        self.average: ExponentialAverage | None = None
        """Of the trained weights (optim.ema_decay); made with the optimizer, when they are on their device."""
        self.gradient_norm: Tensor | None = None
        """Global norm of the step's gradients, over all of its micro-batches, before it was clipped: float32 []."""
        self._loss_sums: list[Tensor] = []
        """Summed losses of the micro-batches since the step began: float32 [], in nats."""
        self._kept_average: dict[str, Tensor] = {}
        """The average in the checkpoint that the run goes on from, by the names of weights."""

    def on_train_start(self) -> None:
        self.objective.begin(self.model)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        with telling_answers(self.model, lambda: answers_by(batch["labels"])):
            loss_sum = self.objective.loss_sum(self.model, batch)
        self._loss_sums.append(loss_sum.detach())
        # Lightning divides by the number of micro-batches, and gradients are averaged over the ranks: both undone here.
        return loss_sum * (self.plan.accumulation * self.plan.ranks / float(self.plan.targets[self.global_step]))

    def on_train_batch_start(self, batch: Batch, batch_index: int) -> None:
        if batch_index % self.plan.accumulation == 0:
            self._loss_sums.clear()
            rows_before = self.plan.batch_size.rows_before(self.global_step + 1)
            self.objective.begin_step(self.model, self.plan.data, int(rows_before[-2]), int(rows_before[-1]))
            settings = self.plan.settings(self.global_step)
            for optimizer in self.trainer.optimizers:
                set_step(optimizer, settings)

    def configure_model(self) -> None:
        """Spread the weights over the ranks (trainer.strategy=fsdp2): block by block, and what is outside of blocks as one."""
        if self.config.trainer.strategy != "fsdp2" or self.plan.ranks == 1:
            return
        assert self.device_mesh is not None
        mesh = self.device_mesh["data_parallel"]
        for block in blocks_of(self.model):
            fully_shard(block, mesh=mesh)
        fully_shard(self.model, mesh=mesh)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Called once a step, with the gradients of all its micro-batches: measure, judge, clip."""
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
        if isinstance(norm, DTensor):
            norm = norm.full_tensor()
        self.gradient_norm = norm
        # Gradients that overflow are how 16-mixed finds its scale, which leaves such updates out by itself.
        is_scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        loss = torch.stack(self._loss_sums).sum() / float(self.plan.targets[self.global_step])
        self.non_finite.judge(
            self.global_step + 1,
            loss,
            torch.zeros_like(loss) if is_scaled else norm,
            agree=lambda flag: self.trainer.strategy.reduce(flag, reduce_op="min"),
            describe=lambda: self.describe_batch(self.global_step + 1),
        )
        if gradient_clip_val is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, norm)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None) -> None:
        # The closure computes the last gradients and clips them, before the optimizer changes anything: what it raises leaves all as it is.
        with suppress(UpdateSkippedError):
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            if self.average is not None:
                self.average.update(self.global_step + 1)

    def describe_batch(self, step: int) -> str:
        """What the batch of a step (1-based) was made of."""
        rows_before = self.plan.batch_size.rows_before(step)
        return describe_rows(self.plan.data, int(rows_before[step - 1]), int(rows_before[step]))

    def configure_optimizers(self) -> Optimizer:
        decay = self.config.optim.ema_decay
        if decay is not None:
            self.average = ExponentialAverage([p for p in self.model.parameters() if p.requires_grad], decay)
            kept = {p: self._kept_average[name] for name, p in self.named_parameters() if name in self._kept_average}
            self.average.load(kept)
            self._kept_average = {}
        return build_optimizer(self.config.optim, self.model)

    def evaluated_weights(self) -> Weights:
        """The weights that are evaluated and exported, where they are not those under training: optim.ema_decay's or schedule_free's."""
        if self.average is not None:
            return self.average.weights
        if self.config.optim.name == "schedule_free":
            return schedule_free_average(self.trainer.optimizers[0])
        return {}

    def step_loss(self) -> float:
        """Loss of the step that just ended, over all ranks, which ask together: in nats per predicted token."""
        return ranks.summed(math.fsum(torch.stack(self._loss_sums).tolist())) / float(self.plan.targets[self.global_step - 1])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What a checkpoint holds as its weights is what was evaluated; one that can be trained on has those under training beside it."""
        checkpoint["non_finite"] = self.non_finite.state_dict()
        checkpoint["trained"] = trained_digest(self.config, self.plan, checkpoint["global_step"])
        evaluated = self.evaluated_weights()
        if evaluated:
            if "optimizer_states" in checkpoint:
                checkpoint["training_weights"] = checkpoint["state_dict"]
            checkpoint["state_dict"] = {
                name: evaluated.get(weight, weight.detach()) for name, weight in self.state_dict(keep_vars=True).items()
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on at the checkpoint's step, and let Lightning start its loops afresh.

        It counts batches within an epoch of the loader it saw when it saved. Ours begins at the step, so that with those counts an epoch
        would end too early, and the next one would begin with rows that were trained already.
        Raises InputError for a checkpoint of another model, or one that was trained as another configuration says.
        """
        self._refuse_other_run(checkpoint)
        if "training_weights" in checkpoint:
            self._kept_average = checkpoint["state_dict"]
            checkpoint["state_dict"] = checkpoint.pop("training_weights")
        self.non_finite.load_state_dict(checkpoint["non_finite"])
        checkpoint.pop("loops", None)
        progress = self.trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress
        progress.optimizer.step.total.completed = checkpoint["global_step"]

    def _refuse_other_run(self, checkpoint: dict[str, Any]) -> None:
        path, step, stored = self.trainer.ckpt_path, checkpoint["global_step"], checkpoint["state_dict"]
        own = self.state_dict()
        other = [name for name in {**own, **stored} if name not in own or name not in stored or own[name].shape != stored[name].shape]
        if other:
            raise InputError(f"{path}: holds other weights than the run's model: {other[0]} and {len(other) - 1} more; move it away")
        # Harnesses before December 2026 did not note it.
        if checkpoint.get("trained") not in (None, trained_digest(self.config, self.plan, step)):
            raise InputError(
                f"{path}: the run's configuration is not the one that its first {step} steps were trained with; going on would mix two "
                "runs. Put config.yaml back, or start a new run: harness train --config"
            )
