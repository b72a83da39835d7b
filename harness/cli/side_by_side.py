"""What several models wrote after the same prompt."""

from __future__ import annotations

from harness.config.terminal import say

COLUMNS_FROM = 72
"""Characters that a terminal needs for two texts side by side."""


def show_side_by_side(*texts: tuple[str, str]) -> None:
    """Texts under the names of their models: in columns where the terminal has room for them, else one below the other."""
    from rich.table import Table
    from rich.text import Text

    from harness.config.literal_console import LiteralConsole

    console = LiteralConsole()
    if not console.is_terminal or console.width < COLUMNS_FROM:
        for name, text in texts:
            say(f"┌ {name}")
            say(text)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), expand=True)
    for name, _ in texts:
        table.add_column(Text(name), ratio=1)
    table.add_row(*(Text(text) for _, text in texts))
    console.print(table)
