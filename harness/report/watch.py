"""Watching runs: a live screen on a terminal, else a line for each run that ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from rich.console import Console, RenderableType
from rich.live import Live

Seen = TypeVar("Seen")


def watch(
    look: Callable[[], tuple[Seen, bool]],
    console: Console,
    *,
    screen: Callable[[Seen], RenderableType],
    lines: Callable[[Seen], Mapping[str, str]],
    pause_seconds: float,
    already: Mapping[str, str] | None = None,
    last_screen: Callable[[Seen], RenderableType] | None = None,
) -> Seen:
    """Poll `look` until nothing is running; returns its last state.

    look: the state, and whether anything is running. screen: what a terminal shows; last_screen: what stays there. lines: without a
    terminal, the lines to print, once for each key. already: keys that need no line; None: those of the first state.
    """
    seen, is_live = look()
    if console.is_terminal:
        with Live(screen(seen), console=console, auto_refresh=False, vertical_overflow="crop") as live:
            while is_live:
                time.sleep(pause_seconds)
                seen, is_live = look()
                live.update(screen(seen), refresh=True)
            live.update((last_screen or screen)(seen), refresh=True)
        return seen
    said = set(lines(seen) if already is None else already)
    while True:
        for key, line in lines(seen).items():
            if key not in said:
                said.add(key)
                console.print(line, highlight=False, soft_wrap=True)
        if not is_live:
            return seen
        time.sleep(pause_seconds)
        seen, is_live = look()
