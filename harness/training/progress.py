"""The progress bar of a single run."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from harness.evaluation.kinds import main_metrics
from harness.training.module import TrainingModule
from harness.training.parameters import count_parameters


class LatestMetrics(Logger):
    """Keeps the last logged value of every metric, for the progress bar."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, float] = {}

    @property
    def name(self) -> str:
        return "latest"

    @property
    def version(self) -> str:
        return ""

    def log_metrics(self, metrics: Mapping[str, float | None], step: int | None = None) -> None:
        self.values.update({key: value for key, value in metrics.items() if value is not None})

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the bar shows none."""

    def __str__(self) -> str:
        shown = ("train/loss", "lr", "tokens_per_second", *main_metrics(self.values))
        names = {"train/loss": "loss", "tokens_per_second": "tokens/s"}
        return "  ".join(f"{names.get(key, key)} {self.values[key]:.4g}" for key in shown if key in self.values)


class StepProgress(Callback):
    """A bar over optimizer steps with the latest metrics, on stderr; on something that is no terminal, a line at every tenth.

    `logger` must be among the run's loggers.
    """

    def __init__(self) -> None:
        self.logger = LatestMetrics()
        self.console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"),
            console=self.console,
        )
        self.task = self.bar.add_task("train", total=None, metrics="")
        self.evaluation = self.bar.add_task("evaluating", total=None, metrics="", visible=False)

    def evaluating(self, name: str, done: int, total: int) -> None:
        """`done` of the `total` predictions or choices of the evaluation set of this name are measured."""
        if self.console.is_terminal:
            self.bar.start()  # the first evaluation comes before the first step
            self.bar.update(self.evaluation, description=f"evaluating {name}", completed=done, total=total, visible=done < total)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        sizes = count_parameters(module.model)
        self.console.print(f"{sizes.trained:,} of {sizes.total:,} parameters are trained", highlight=False)
        self.bar.update(self.task, total=module.plan.steps, completed=trainer.global_step)
        if self.console.is_terminal:
            self.bar.start()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_index: int) -> None:
        assert isinstance(module, TrainingModule)
        if (batch_index + 1) % module.plan.accumulation:
            return
        step, steps = trainer.global_step, module.plan.steps
        if self.console.is_terminal:
            self.bar.update(self.task, completed=step, metrics=str(self.logger))
        elif step * 10 // steps > (step - 1) * 10 // steps:
            self.console.print(f"step {step}/{steps}  {self.logger}", highlight=False, soft_wrap=True)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.bar.stop()

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        self.bar.stop()
