"""What happens between two optimizer steps: evaluate, log, save, stop. One callback, because the order matters."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from harness.runs.directory import RunDirectory
from harness.runs.metrics import Row
from harness.training import checkpoints
from harness.training.evaluation import evaluate
from harness.training.module import TrainingModule
from harness.training.stop import StopFlag

if TYPE_CHECKING:
    from harness.data.validation import ValidationSet


class NonFiniteLossError(Exception):
    """The loss became NaN or infinite."""


class StepEnd(Callback):
    """Keeps the rhythm of a run.

    A row is written only when everything of its step is known, so that there is one row a step; a checkpoint follows its row, so that a
    resumed run never lacks one.
    """

    def __init__(self, run: RunDirectory, validation: dict[str, ValidationSet], stop: StopFlag) -> None:
        self.run = run
        self.validation = validation
        self.stop = stop
        self.stopped = False
        """Whether the run was asked to stop before its end, and did."""
        self.initial_loss: dict[str, float] = {}
        """Loss of each domain at step 0."""
        self._random_state: dict[str, Any] | None = None
        self._clock = time.perf_counter()
        self._clock_step = 0
        self._gradient_norm: float | None = None

    # What a checkpoint holds of us.

    def state_dict(self) -> dict[str, Any]:
        return {"random": checkpoints.random_state(), "initial_loss": self.initial_loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.initial_loss = state_dict["initial_loss"]
        self._random_state = state_dict["random"]

    # Lightning's hooks.

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        self.stop.install()
        if trainer.global_step == 0:
            self._write(trainer, {"step": 0, "tokens": 0, **self._evaluate(trainer, module)})
        if self._random_state is not None:
            checkpoints.restore_random_state(self._random_state)
        self._clock, self._clock_step = time.perf_counter(), trainer.global_step

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: torch.optim.Optimizer) -> None:
        assert isinstance(module, TrainingModule)
        # global_step still counts the steps done: the one under way ends as the next.
        if self._is_logged(module, trainer.global_step + 1):
            gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
            self._gradient_norm = float(torch.nn.utils.get_total_norm(gradients))

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_index: int) -> None:
        assert isinstance(module, TrainingModule)
        if (batch_index + 1) % module.plan.accumulation:
            return
        step, plan, every = trainer.global_step, module.plan, module.config.trainer.checkpoint_every_steps
        stopping = self._agree_to_stop(trainer)
        # Reading the loss of every step costs nothing on a CPU; elsewhere it would wait for the device.
        if self._is_logged(module, step) or (module.device.type == "cpu" and not math.isfinite(float(module.step_loss_sum))):
            self._log(trainer, module)
        if step == plan.steps:
            final = module.config.trainer.final_checkpoint
            if final != "none":
                self._save(trainer, module, weights_only=final == "weights")
        elif stopping or (every is not None and step % every == 0):
            self._save(trainer, module)
        if stopping and step < plan.steps:
            self.stopped = True
            trainer.should_stop = True

    # The parts.

    def _is_logged(self, module: TrainingModule, step: int) -> bool:
        return step % module.config.trainer.log_every_steps == 0 or step == module.plan.steps or self._is_evaluated(module, step)

    def _is_evaluated(self, module: TrainingModule, step: int) -> bool:
        every = module.config.trainer.evaluate_every_steps
        return step == module.plan.steps or (every is not None and step % every == 0)

    def _agree_to_stop(self, trainer: Trainer) -> bool:
        if trainer.world_size == 1:
            return self.stop.is_set
        asked = torch.tensor(float(self.stop.is_set), device=trainer.strategy.root_device)
        return bool(trainer.strategy.reduce(asked, reduce_op="sum"))

    def _log(self, trainer: Trainer, module: TrainingModule) -> None:
        step, plan = trainer.global_step, module.plan
        loss = module.reduced_step_loss()
        if not math.isfinite(loss):
            raise NonFiniteLossError(f"the loss of step {step} is {loss} (learning rate {trainer.optimizers[0].param_groups[0]['lr']:.3g})")
        elapsed = time.perf_counter() - self._clock
        row: Row = {
            "step": step,
            "tokens": plan.tokens_after(step),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "train/loss": loss,
            "train/gradient_norm": self._gradient_norm,
            "tokens_per_second": (plan.tokens_after(step) - plan.tokens_after(self._clock_step)) / elapsed,
        }
        if self._is_evaluated(module, step):
            row.update(self._evaluate(trainer, module))
        self._write(trainer, row)
        self._clock, self._clock_step = time.perf_counter(), step

    def _evaluate(self, trainer: Trainer, module: TrainingModule) -> dict[str, float]:
        values: dict[str, float] = {}
        for domain, validation in self.validation.items():
            measured = evaluate(
                module.model,
                validation,
                batch_tokens=module.config.trainer.evaluation_batch_tokens,
                precision=trainer.precision_plugin.forward_context,
                rank=trainer.global_rank,
                world_size=trainer.world_size,
                reduce=lambda total: trainer.strategy.reduce(total, reduce_op="sum"),
            )
            initial = self.initial_loss.setdefault(domain, measured["loss"])
            values.update({f"val/{domain}/{name}": value for name, value in measured.items()})
            values[f"val/{domain}/forgetting"] = measured["loss"] - initial
        return values

    def _write(self, trainer: Trainer, row: Row) -> None:
        if trainer.is_global_zero:
            self.run.metrics.append(row)
        for logger in trainer.loggers:
            logger.log_metrics({key: value for key, value in row.items() if key != "step"}, step=row["step"])

    def _save(self, trainer: Trainer, module: TrainingModule, *, weights_only: bool = False) -> None:
        began = time.perf_counter()
        checkpoints.save(trainer, self.run.checkpoints, keep=module.config.trainer.keep_checkpoints, weights_only=weights_only)
        self._clock += time.perf_counter() - began
