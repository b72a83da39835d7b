"""The progress bar of a single run: of its evaluations, and of its steps where it trains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.console import RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from harness.config.literal_console import LiteralConsole
from harness.evaluation.kinds import main_metrics

NAMES = {"train/loss": "loss", "lr": "lr", "tokens_per_second": "tokens/s"}
"""Of training's own metrics, which every row has."""


class LatestMetrics:
    """Keeps the last logged value of every metric, and its step, for the progress bar."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self._steps: dict[str, int] = {}
        self._said: dict[str, int] = {}

    def log_metrics(self, metrics: Mapping[str, float | None], step: int | None = None) -> None:
        logged = {key: value for key, value in metrics.items() if value is not None}
        self.values.update(logged)
        self._steps.update(dict.fromkeys(logged, step or 0))

    def __str__(self) -> str:
        """All of them; an evaluation that is older than the last row with its step: val/docs/loss 2.31 @120."""
        newest = max(self._steps.values(), default=0)
        return "  ".join(f"{self._text(key)}{'' if self._steps[key] == newest else f' @{self._steps[key]}'}" for key in self._shown())

    def news(self) -> str:
        """Those of training, and evaluations that were not said before."""
        fresh = [key for key in self._shown() if key in NAMES or self._said.get(key) != self._steps[key]]
        self._said.update({key: self._steps[key] for key in fresh})
        return "  ".join(map(self._text, fresh))

    def _shown(self) -> list[str]:
        return [key for key in (*NAMES, *main_metrics(self.values)) if key in self.values]

    def _text(self, key: str) -> str:
        return f"{NAMES.get(key, key)} {self.values[key]:.4g}"


class _Bars(Progress):
    """Bars, and below them what was measured last: on a narrow terminal its end is cut, never the step or the time that is left."""

    def __init__(self, metrics: LatestMetrics, console: LiteralConsole) -> None:
        columns = (MofNCompleteColumn(), BarColumn(bar_width=None), TimeElapsedColumn(), TimeRemainingColumn())
        self._metrics = metrics
        super().__init__(TextColumn("[bold]{task.description}"), *columns, console=console)

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        yield Text(str(self._metrics), no_wrap=True, overflow="ellipsis")


class RunProgress:
    """Bars on stderr; on something that is no terminal, a line at every tenth of the steps. `logger` must be among the run's loggers."""

    def __init__(self) -> None:
        self.logger = LatestMetrics()
        self.console = LiteralConsole(stderr=True)
        self.bar = _Bars(self.logger, self.console)
        self._steps = self.bar.add_task("train", total=None, visible=False)
        self._evaluation = self.bar.add_task("evaluating", total=None, visible=False)

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
            self.bar.update(self._steps, completed=step)
        elif step * 10 // steps > (step - 1) * 10 // steps:
            self.console.print(f"step {step}/{steps}  {self.logger.news()}", highlight=False, soft_wrap=True)

    def stop(self) -> None:
        if self.bar.live.is_started:
            self.bar.stop()
