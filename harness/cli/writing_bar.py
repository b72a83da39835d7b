"""How far models are that write, on stderr."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


class WritingBar:
    """Rows, tokens/s and the time that is left, on stderr."""

    def __init__(self) -> None:
        self.done = self.tokens = 0
        self._began = time.perf_counter()
        self._bar: Progress | None = None
        self._seconds = 0.0

    @property
    def rate(self) -> float:
        return self.tokens / max(1e-9, self._seconds)

    def update(self, done: int, rows: int, tokens: int, before: int) -> None:
        if done == before and tokens == self.tokens:  # reading the model took its time
            self._began = time.perf_counter() - self._seconds
        self.done, self.tokens = done, tokens
        self._seconds = time.perf_counter() - self._began
        if self._bar is None:
            self._bar = self._made(rows)
        if self._bar.live.is_started:
            self._bar.update(self._bar.task_ids[0], completed=done, rate=f"{self.rate:,.0f} tokens/s")

    def _made(self, rows: int) -> Progress:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        from harness.config.literal_console import LiteralConsole

        columns = (
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        bar = Progress(TextColumn("[bold]writing"), *columns, console=LiteralConsole(stderr=True))
        bar.add_task("writing", total=rows, rate="")
        if bar.console.is_terminal:
            bar.start()
        return bar

    def stop(self) -> None:
        if self._bar is not None and self._bar.live.is_started:
            self._bar.stop()
