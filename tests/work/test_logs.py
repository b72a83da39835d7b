"""Logs that are followed while they are written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.work import logs
from harness.work.logs import Log, follow_logs


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, list[bytes]]]:
    """A file, and what is appended to it, a piece each time that its reader waits."""
    path, pieces = tmp_path / "log.txt", []
    path.write_bytes(b"before\n")

    def append(seconds: float) -> None:
        with path.open("ab") as stream:
            stream.write(pieces.pop(0))

    monkeypatch.setattr(logs.time, "sleep", append)
    return path, pieces


def test_a_character_that_is_written_in_two_pieces_is_shown_whole(written: tuple[Path, list[bytes]]) -> None:
    path, pieces = written
    pieces += ["a→".encode()[:2], "a→".encode()[2:] + b"b", b"\xff\n"]
    followed = follow_logs([Log(path, "log")])
    assert [next(followed)[1] for _ in range(3)] == ["a", "→b", "�\n"]
