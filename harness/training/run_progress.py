"""The progress bar of a single run: of its evaluations, and of its steps where it trains."""

from __future__ import annotations

from collections.abc import Mapping

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from harness.config.literal_console import LiteralConsole
from harness.evaluation.kinds import main_metrics


class LatestMetrics:
    """Keeps the last logged value of every metric, for the progress bar."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def log_metrics(self, metrics: Mapping[str, float | None], step: int | None = None) -> None:
        self.values.update({key: value for key, value in metrics.items() if value is not None})

    def __str__(self) -> str:
        shown = ("train/loss", "lr", "tokens_per_second", *main_metrics(self.values))
        names = {"train/loss": "loss", "tokens_per_second": "tokens/s"}
        return "  ".join(f"{names.get(key, key)} {self.values[key]:.4g}" for key in shown if key in self.values)


class RunProgress:
    """Bars on stderr; on something that is no terminal, a line at every tenth of the steps. `logger` must be among the run's loggers."""

    def __init__(self) -> None:
        self.logger = LatestMetrics()
        self.console = LiteralConsole(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}", markup=False),
            console=self.console,
        )
        self._steps = self.bar.add_task("train", total=None, metrics="", visible=False)
        self._evaluation = self.bar.add_task("evaluating", total=None, metrics="", visible=False)

    def evaluating(self, name: str, done: int, total: int) -> None:
        """`done` of the `total` predictions or choices of the evaluation set of this name are measured."""
        if self.console.is_terminal:
            self.bar.start()  # the first evaluation comes before the first step
            self.bar.update(self._evaluation, description=f"evaluating {name}", completed=done, total=total, visible=done < total)

    def training(self, step: int, steps: int, *, trained: int, parameters: int) -> None:
        """Training begins after `step` of `steps` steps; so many of the parameters are trained."""
        self.console.print(f"{trained:,} of {parameters:,} parameters are trained", highlight=False)
        self.bar.update(self._steps, total=steps, completed=step, visible=True)
        if self.console.is_terminal:
            self.bar.start()

    def stepped(self, step: int, steps: int) -> None:
        """A step has ended."""
        if self.console.is_terminal:
            self.bar.update(self._steps, completed=step, metrics=str(self.logger))
        elif step * 10 // steps > (step - 1) * 10 // steps:
            self.console.print(f"step {step}/{steps}  {self.logger}", highlight=False, soft_wrap=True)

    def stop(self) -> None:
        self.bar.stop()
