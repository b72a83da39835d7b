"""Logs that are followed while they are written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.runs.directory import StudyDirectory
from harness.runs.trial import Trial, write_trial
from harness.work import logs
from harness.work.logs import Log, follow_logs, study_logs, trial_logs


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


def test_a_pipe_in_the_place_of_a_log_is_not_waited_for(tmp_path: Path) -> None:
    study = StudyDirectory(tmp_path)
    write_trial(study.trial(0), Trial(number=0, params={}, tokens=1))
    os.mkfifo(study.trial(0).log)
    study.workers.mkdir()
    os.mkfifo(study.workers / "log.txt")
    assert trial_logs(study, 0) == study_logs(study) == []
