from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from harness.report.watch import watch

LOOKS = ([], ["a"], ["a", "b"])
"""What has ended at each look; somebody works until the last."""


def watched(*, terminal: bool, already: dict[str, str] | None = None) -> str:
    stream, looks = io.StringIO(), iter(LOOKS)

    def look() -> tuple[list[str], bool]:
        ended = next(looks)
        return ended, ended != LOOKS[-1]

    def lines(seen: list[str]) -> dict[str, str]:
        return {name: f"{name} has ended, {len(seen)} in all" for name in seen}

    seen = watch(
        look,
        Console(file=stream, force_terminal=terminal, color_system=None, width=60),
        screen=lambda seen: Text(f"{len(seen)} ended"),
        last_screen=lambda seen: Text(f"all {len(seen)} of them"),
        lines=lines,
        pause_seconds=0.0,
        already=already,
    )
    assert seen == LOOKS[-1]
    return stream.getvalue()


@pytest.mark.parametrize(
    ("already", "expected"),
    [
        (None, ["a has ended, 1 in all", "b has ended, 2 in all"]),
        ({"a": "ended before"}, ["b has ended, 2 in all"]),
        ({}, ["a has ended, 1 in all", "b has ended, 2 in all"]),
    ],
)
def test_each_run_that_ends_has_a_line_where_there_is_no_terminal(already: dict[str, str] | None, expected: list[str]) -> None:
    assert watched(terminal=False, already=already).splitlines() == expected


def test_a_terminal_keeps_the_last_screen() -> None:
    text = watched(terminal=True)
    assert "0 ended" in text
    assert text.rindex("all 2 of them") > text.rindex("ended")
    assert "has ended" not in text
