"""What becomes of the other ranks when rank 0 leaves an attempt in an unusual way."""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.launch.rank_group import RankGroup
from harness.runs.directory import RunDirectory
from harness.runs.world import World
from harness.search.attempt_watch import AttemptWatch
from harness.search.storage.contract import StorageLostError
from harness.search.study import Claim
from harness.work import other_ranks
from harness.work.other_ranks import follow_worker

SECONDS = 60.0


def hang(directory: str, *world: World) -> int:
    """A part in an attempt that waits for the other ranks, for ever."""
    run = Path(directory)
    run.mkdir(exist_ok=True)
    (run / "pid").write_text(str(os.getpid()))
    time.sleep(10 * SECONDS)
    return 0


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(run: Path) -> bool:
    """Whether the part of the other rank lives."""
    state = Path(f"/proc/{(run / 'pid').read_text()}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


def begun(run: Path) -> bool:
    return (run / "pid").exists() and bool((run / "pid").read_text())


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Iterator[RankGroup]:
    """Rank 0's side, of two; the other rank takes part until it is closed."""
    monkeypatch.setattr(other_ranks, "follow_trial", hang)
    monkeypatch.setattr(other_ranks, "LEAVE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as free:
        world = World(size=2, port=free.getsockname()[1])
    follower = threading.Thread(target=follow_worker, args=(replace(world, rank=1), "node", ["tests.launch.test_rank_group"]))
    follower.start()
    group = RankGroup.gather(world)
    yield group
    group.close()
    follower.join(SECONDS)
    assert not follower.is_alive()


def begin(group: RankGroup, run: Path) -> None:
    _, listener = group.begin(str(run))
    listener.close()
    wait_until(lambda: begun(run))


def test_a_worker_that_loses_its_storage_ends_all_ranks(group: RankGroup, tmp_path: Path) -> None:
    run = tmp_path / "0000"
    begin(group, run)
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(10 * SECONDS,))
    process.start()
    storage: Any = SimpleNamespace(sentinels=[], is_lost=lambda: True)
    time_left: Any = SimpleNamespace(is_over=False)
    study: Any = None
    claim = Claim(0, RunDirectory(run))
    watch = AttemptWatch(process, claim, study, storage, is_leaving=lambda: False, time_left=time_left, ranks=group)
    with pytest.raises(StorageLostError, match=r"trial 0 was ended, and goes on from its last checkpoint"):
        watch.follow()
    assert not process.is_alive()
    assert not is_alive(run), "it would keep its device"


def test_a_new_attempt_ends_what_is_left_of_the_one_before(group: RankGroup, tmp_path: Path) -> None:
    first, second = tmp_path / "0000", tmp_path / "0001"
    begin(group, first)
    begin(group, second)
    assert not is_alive(first)
    assert is_alive(second)
    group.end()
    assert not is_alive(second)
    assert group.exit_codes() == {-9}
