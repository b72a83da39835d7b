"""The progress bar of a single run."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from harness.training.module import TrainingModule


class TokenizationProgress:
    """Bars over the bytes of each source while it is tokenized; nothing is shown for what comes from the cache."""

    def __init__(self) -> None:
        self.bar = Progress(
            TextColumn("[bold]tokenize[/] {task.description}"),
            BarColumn(bar_width=None),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.tasks: dict[str, TaskID] = {}

    def update(self, key: str, done: int, total: int) -> None:
        """`done` of the `total` bytes of the source or domain at this configuration key are tokenized."""
        if key not in self.tasks:
            self.tasks[key] = self.bar.add_task(key.removeprefix("data."), total=total)
            self.bar.start()
        self.bar.update(self.tasks[key], completed=done)
        if done >= total:
            self.bar.stop()


class StepProgress(Callback):
    """A bar over optimizer steps with the latest metrics, on stderr; on something that is no terminal, a line at every tenth."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("[bold]train"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"),
            console=self.console,
        )
        self.task = self.bar.add_task("train", total=None, metrics="")

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        self.bar.update(self.task, total=module.plan.steps, completed=trainer.global_step)
        if self.console.is_terminal:
            self.bar.start()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_index: int) -> None:
        assert isinstance(module, TrainingModule)
        if (batch_index + 1) % module.plan.accumulation:
            return
        step, steps = trainer.global_step, module.plan.steps
        if self.console.is_terminal:
            self.bar.update(self.task, completed=step)
        elif step * 10 // steps > (step - 1) * 10 // steps:
            self.console.print(f"step {step}/{steps}  {self.bar.tasks[0].fields['metrics']}", highlight=False)

    def show(self, metrics: dict[str, float]) -> None:
        """Show a freshly logged row."""
        parts = [
            f"{key.removeprefix('train/')} {value:.4g}"
            for key, value in metrics.items()
            if key in ("train/loss", "lr", "tokens_per_second")
        ]
        self.bar.update(self.task, metrics="  ".join(parts))

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.bar.stop()

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        self.bar.stop()
