"""Rich's console for what strangers wrote."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from harness.config.terminal import shown


class LiteralConsole(Console):
    """Markup, emoji codes and control characters are printed as they stand; styles are given by `Text` and `style=` alone."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(shown(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        # The last place that all pass: what is built as Text as well.
        for segment in super().render(renderable, options):
            literal = segment.text if segment.control else shown(segment.text)
            yield segment if literal == segment.text else Segment(literal, segment.style)
