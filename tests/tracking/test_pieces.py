"""What attempts leave of a W&B run on disk."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from harness.tracking.pieces import pieces_of
from tests.tracking.attempts import RUN_ID, attempt, forked


def piece(directory: Path, name: str, run_id: str | None) -> Path:
    path = directory / "wandb" / name
    (path / "files").mkdir(parents=True)
    if run_id is not None:
        (path / f"run-{run_id}.wandb").touch()
        (path / f"run-{run_id}.wandb.synced").touch()
    return path


def test_attempts_of_the_same_second_are_pieces_of_the_same_run_in_their_order(tmp_path: Path) -> None:
    """The client adds a number to the name of the directory where there is one of that name; the log in it is called as ever."""
    second = piece(tmp_path, "offline-run-20260102_030405-abc-1", "abc")
    first = piece(tmp_path, "offline-run-20260102_030405-abc", "abc")
    later = piece(tmp_path, "offline-run-20260102_030406-abc", "abc")
    found = pieces_of(tmp_path, "abc")
    assert [one.path for one in found] == [first, second, later]
    assert all(one.log.exists() and one.marker.exists() for one in found)
    assert pieces_of(tmp_path, "abc-1") == []


def test_an_id_may_end_like_such_a_number(tmp_path: Path) -> None:
    piece(tmp_path, "run-20260102_030405-abc-1", "abc-1")
    just_started = piece(tmp_path, "run-20260102_030406-abc-1", None)
    assert [(one.id, one.offline) for one in pieces_of(tmp_path)] == [("abc-1", False)] * 2
    assert pieces_of(tmp_path, "abc-1")[1].path == just_started


@pytest.mark.slow
def test_the_client_calls_a_second_piece_of_the_same_second_so(tmp_path: Path, environment: dict[str, str]) -> None:
    now = datetime.now()
    for seconds in range(100):
        piece(tmp_path, f"offline-run-{now + timedelta(seconds=seconds):%Y%m%d_%H%M%S}-{RUN_ID}", None)
    forked(attempt, tmp_path, environment, {0: {"loss": 1.0}})
    (logged,) = [one for one in pieces_of(tmp_path, RUN_ID) if one.log.exists()]
    assert logged.path.name.endswith(f"-{RUN_ID}-1")
