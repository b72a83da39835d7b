"""Ended runs brought to W&B: by the real command, the real client's logs and its own `wandb sync`."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.runs.directory import RunDirectory
from harness.tracking.identity import identity_of_run
from harness.tracking.pieces import pieces_of
from tests.support.command import Done, run_harness
from tests.support.fake_wandb import FakeWandb, StoredRun
from tests.tracking.attempts import forked, read_back
from tests.tracking.studies import attempted, study_in, trial_in, write_config

Environment = dict[str, str]
Sync = Callable[..., Done]


@pytest.fixture
def offline(environment: Environment) -> Environment:
    return {**environment, "WANDB_MODE": "offline"}


@pytest.fixture
def harness_sync(tmp_path: Path, backend: FakeWandb, environment: Environment) -> Sync:
    """`harness sync` against the backend, in a directory whose runs/ is the runs root."""

    def run(*arguments: str | Path, **more: str) -> Done:
        env = {**environment, **backend.environment, "HARNESS_RUNS": str(tmp_path / "runs"), **more}
        return run_harness("sync", *arguments, cwd=tmp_path, env=env)

    return run


def stored(backend: FakeWandb, run: RunDirectory) -> StoredRun:
    return backend.runs[backend.entity, "harness", identity_of_run(run).id]


def own_rows(run: RunDirectory) -> list[dict[str, Any]]:
    """As they should be in W&B."""
    return [{"_step": row.pop("step"), **row} for row in run.metrics.rows()]


def rows_in_wandb(stored: StoredRun) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in ("_runtime", "_timestamp")} for row in stored.rows]


def document(done: Done) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_a_study_goes_to_wandb_once_and_reads_back_as_its_own_files_have_it(
    tmp_path: Path, backend: FakeWandb, offline: Environment, online: Environment, harness_sync: Sync
) -> None:
    study = study_in(tmp_path / "runs")
    complete, killed, failed, under_way = (trial_in(study, number) for number in range(4))
    attempted(complete, offline, 0, 20, state="complete")
    attempted(killed, offline, 0, 20, state=None)
    attempted(killed, offline, 11, 30, attempt=2, state="complete")
    attempted(failed, offline, 0, 7, state="failed")
    attempted(under_way, offline, 0, 7, state="waiting")

    would = document(harness_sync("question", "--dry-run", "--json"))
    assert would["to_sync"] == ["question/0000", "question/0001", "question/0002"]
    assert backend.runs == {}

    done = harness_sync("question", "--json")
    assert done.rc == 0, done
    assert [run["run"] for run in document(done)["synced"]] == ["question/0000", "question/0001", "question/0002"]
    assert document(done)["unfinished"] == ["question/0003"]
    for run, state in ((complete, "finished"), (killed, "finished"), (failed, "failed")):
        assert rows_in_wandb(stored(backend, run)) == own_rows(run)
        assert stored(backend, run).state == state
        assert "failed" not in stored(backend, run).states or run is failed
    assert identity_of_run(under_way).id not in {key[2] for key in backend.runs}

    [read] = forked(read_back, online, "harness", {"display_name": "question/0001"})
    result = json.loads(killed.result.read_bytes())
    assert read.rows == own_rows(killed)
    assert {key: read.summary[key] for key in result["metrics"]} == result["metrics"]
    expected = {"objective": result["objective"], "best/val_loss": 2 / 31, "forgetting": 0.03, "tokens": 3000, "state": "complete"}
    assert {key: read.summary[key] for key in expected} == expected

    again = harness_sync("question")
    assert (again.rc, again.stdout) == (0, "3 in W&B already; 1 not ended yet\n")
    assert len(stored(backend, complete).states) == 2, "nothing went there a second time"

    attempted(under_way, offline, 8, 12, attempt=2, state="complete")
    assert harness_sync("question").rc == 0
    assert rows_in_wandb(stored(backend, under_way)) == own_rows(under_way)


@pytest.mark.slow
def test_a_log_torn_anywhere_arrives_whole_and_stays_as_it_is(
    tmp_path: Path, backend: FakeWandb, offline: Environment, harness_sync: Sync
) -> None:
    original = RunDirectory(tmp_path / "original")
    write_config(original)
    attempted(original, offline, 0, 40, state="complete")
    size = pieces_of(original.path)[0].log.stat().st_size
    random_ = random.Random(size)
    torn: dict[Path, bytes] = {}
    for kept in [0, 3, 7, 8, size - 1, *(random_.randrange(size) for _ in range(7))]:
        run = RunDirectory(tmp_path / "runs" / f"torn-{kept}")
        shutil.copytree(original.path, run.path)
        [piece] = pieces_of(run.path)
        # Each is a run of its own.
        path = piece.path.rename(piece.path.with_name(piece.path.name.replace(piece.id, f"torn{kept}")))
        log = path / f"run-torn{kept}.wandb"
        (path / piece.log.name).rename(log)
        torn[log] = log.read_bytes()[:kept]
        log.write_bytes(torn[log])
    done = harness_sync("--json")
    assert done.rc == 0, done
    for log, content in torn.items():
        run = RunDirectory(log.parents[2])
        assert rows_in_wandb(stored(backend, run)) == own_rows(original), run.name
        assert stored(backend, run).state == "finished"
        assert log.read_bytes() == content
    assert len(backend.runs) == len(torn)
