"""The progress bar of a run that Lightning trains."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from harness.training.module import TrainingModule
from harness.training.parameters import count_parameters
from harness.training.run_progress import RunProgress


class StepProgress(Callback):
    """Tells the bar of optimizer steps."""

    def __init__(self, progress: RunProgress) -> None:
        self.progress = progress

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        sizes = count_parameters(module.model)
        self.progress.training(trainer.global_step, module.plan.steps, trained=sizes.trained, parameters=sizes.total)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_index: int) -> None:
        assert isinstance(module, TrainingModule)
        if (batch_index + 1) % module.plan.accumulation == 0:
            self.progress.stepped(trainer.global_step, module.plan.steps)
