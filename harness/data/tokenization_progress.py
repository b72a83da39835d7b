"""Progress bars of tokenization, without Lightning, whose import takes seconds."""

from __future__ import annotations

from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from harness.config.literal_console import LiteralConsole


class TokenizationProgress:
    """Bars over the bytes of a source while it is tokenized, while a teacher is sampled or a reference reads; none of what is cached."""

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
        """`done` of the `total` bytes of the source or domain at this configuration key are done; of the teacher, bytes
        of its samples, of the reference those of its log-probabilities."""
        if key not in self.tasks:
            verb = {"objective.teacher": "sample", "objective.reference": "read by"}.get(key.partition(" ")[0], "tokenize")
            self.tasks[key] = self.bar.add_task(key.removeprefix("data."), total=total, verb=verb)
            self.bar.start()
        self.bar.update(self.tasks[key], completed=done)
        if done >= total:
            self.bar.stop()
