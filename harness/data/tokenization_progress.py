"""Progress bars of tokenization, without Lightning, whose import takes seconds."""

from __future__ import annotations

from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from harness.config.literal_console import LiteralConsole


class TokenizationProgress:
    """Bars over the bytes of each source while it is tokenized, or while a teacher is sampled; none for what comes from the cache."""

    def __init__(self) -> None:
        self.bar = Progress(
            TextColumn("{task.fields[verb]}", style="bold", markup=False),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=LiteralConsole(stderr=True),
        )
        self.tasks: dict[str, TaskID] = {}

    def update(self, key: str, done: int, total: int) -> None:
        """`done` of the `total` bytes of the source or domain at this configuration key are done; of the teacher, bytes of its samples."""
        if key not in self.tasks:
            verb = "sample" if key.startswith("objective.") else "tokenize"
            self.tasks[key] = self.bar.add_task(key.removeprefix("data."), total=total, verb=verb)
            self.bar.start()
        self.bar.update(self.tasks[key], completed=done)
        if done >= total:
            self.bar.stop()
