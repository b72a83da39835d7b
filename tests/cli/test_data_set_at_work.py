"""`harness status` and `harness stop` of a data set while workers are at it, of which some belong to no command."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from harness.runs.locks import hold
from harness.synthesis.directory import SynthDirectory
from harness.work.study_jobs import StudyJobs
from tests.support.command import call_harness

RECIPE = {"name": "x", "recipe": {"budget": {"tokens": 100}}, "seeds": {}, "teachers": {}, "steps": {}, "shards": 2, "asks": 2}


@pytest.fixture
def made(tmp_path: Path) -> SynthDirectory:
    found = SynthDirectory(tmp_path / "made")
    found.shard_file(0).parent.mkdir(parents=True)
    found.recipe.write_text(yaml.safe_dump(RECIPE))
    return found


def test_a_worker_without_a_command_is_waited_for(made: SynthDirectory) -> None:
    lock = hold(made.shard_lock(1))
    assert lock is not None
    try:
        done = call_harness("stop", "made", "--timeout", "0.1", cwd=made.path.parent)
    finally:
        lock.release()
    assert (done.rc, "still running: a worker on shard 1" in done.stderr) == (1, True), done
    assert "no worker is running" in call_harness("stop", "made", cwd=made.path.parent).stdout


def test_a_watch_says_how_far_it_is(made: SynthDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = hold(made.shard_lock(1))
    assert lock is not None

    def slept(seconds: float) -> None:
        made.append(1, {"step": "text", "id": "a", "text": "x", "finish": "stop"})
        lock.release()

    with monkeypatch.context() as patched:
        patched.setattr(time, "sleep", slept)
        done = call_harness("status", "made", "--watch", cwd=made.path.parent)
    assert "made: running, 0 of 2 texts, 0 of 2 shards" in done.stderr, done
    assert done.stdout.startswith("made: waiting, 1 of 2 texts, 0 of 2 shards")


def test_a_watch_ends_where_slurm_cannot_be_asked(made: SynthDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.work.study_jobs.study_jobs", lambda place: StudyJobs([], [], "squeue: no such command"))
    done = call_harness("status", "made", "--watch", cwd=made.path.parent)
    assert (done.rc, "jobs: squeue: no such command" in done.stdout) == (0, True), done
