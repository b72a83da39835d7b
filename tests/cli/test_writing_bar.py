"""Tokens/s of models that write."""

from __future__ import annotations

import pytest

from harness.cli.writing_bar import WritingBar
from harness.work.generate_beside import _Halves


def test_reading_models_does_not_count_as_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    bar = WritingBar()
    halves = _Halves(bar.update)
    now = 10
    halves.of_one(0, 2, 0, 0)
    for row in (1, 2):
        now += 1
        halves.of_one(row, 2, 20 * row, 0)
    now += 10
    halves.of_other(0, 2, 0, 0)
    for row in (1, 2):
        now += 1
        halves.of_other(row, 2, 20 * row, 0)
    assert (bar.done, bar.tokens, bar.rate) == (4, 80, 20)
