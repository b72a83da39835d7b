"""In which order runs are uploaded."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from harness.tracking import upload


def test_the_first_run_is_begun_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client puts its logger in place with the first run of a process: begun in two threads at once, one found it half there."""
    lock, under_way, seen = threading.Lock(), set[str](), dict[str, set[str]]()

    def upload_one(one: Any, *_: object) -> None:
        with lock:
            under_way.add(one.id)
        time.sleep(0.05)
        with lock:
            seen[one.id] = set(under_way)
            under_way.discard(one.id)

    monkeypatch.setattr(upload, "_upload_one", upload_one)
    runs: list[Any] = [SimpleNamespace(id=name) for name in "abcd"]
    assert upload._upload(runs, "team", 1.0) == {}
    assert seen["a"] == {"a"}
    assert {*seen["b"], *seen["c"], *seen["d"]} == {"b", "c", "d"}
