"""Ended runs brought to W&B: by the real command and the real client."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.runs.directory import RunDirectory
from harness.runs.files import read_json, write_json
from harness.runs.locks import hold
from harness.tracking.identity import identity_of_run, identity_of_study
from harness.tracking.wandb_directory import is_synced
from harness.tracking.wandb_run import TrackingError
from tests.support.command import HARNESS, Done, run_harness
from tests.support.fake_wandb import FakeWandb, StoredRun
from tests.tracking.attempts import forked, read_back
from tests.tracking.conftest import wait_for_the_end_of_all_with
from tests.tracking.studies import attempted, end, study_in, trial_in, write_config

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

    of_study = backend.runs[backend.entity, "harness", identity_of_study(study).id]
    assert (of_study.job_type, of_study.group, of_study.state) == ("study", "question", "preempted")
    assert [row["_step"] for row in of_study.rows] == [1, 2, 3]

    again = harness_sync("question")
    assert (again.rc, again.stdout) == (0, "3 in W&B already; 1 not ended yet\n")
    assert stored(backend, complete).states == ["running", "finished"], "nothing went there a second time"

    attempted(under_way, offline, 8, 12, attempt=2, state="complete")
    assert harness_sync("question").rc == 0
    assert rows_in_wandb(stored(backend, under_way)) == own_rows(under_way)
    assert len(backend.runs) == 5, "the trials and the study"
    assert [row["_step"] for row in of_study.rows] == [1, 2, 3, 4]
    assert [row["tokens"] for row in of_study.rows] == [2000, 5000, 5700, 6900]
    assert of_study.rows[-1]["best/objective"] == of_study.summary["best/objective"] == 2 / 31
    assert of_study.summary["trials"]["_type"] == "table-file"
    assert of_study.summary["trials"]["nrows"] == 4
    assert of_study.state == "finished"
    logged = {artifact.collection: artifact for artifact in backend.artifacts}
    assert of_study.summary["report"]["_type"] == "html-file"
    assert b"<html" in of_study.files[of_study.summary["report"]["path"]]
    assert logged["question-sweep"].files == {"sweep.yaml": study.sweep.read_bytes()}
    assert b"<html" in logged["question-report"].files["report.html"]


@pytest.mark.slow
def test_another_server_gets_what_the_first_one_has(
    tmp_path: Path, backend: FakeWandb, offline: Environment, harness_sync: Sync, environment: Environment
) -> None:
    study = study_in(tmp_path / "runs")
    run = trial_in(study, 0)
    attempted(run, offline, 0, 5, state="complete")
    assert harness_sync("question").rc == 0
    assert harness_sync("question").stdout == "1 in W&B already\n"
    with FakeWandb() as other:
        assert document(harness_sync("question", "--dry-run", "--json", **other.environment))["to_sync"] == ["question/0000"]
        assert harness_sync("question", **other.environment).rc == 0
        assert rows_in_wandb(stored(other, run)) == own_rows(run)
        assert len(other.runs) == 2, "the trial and the study"
        assert harness_sync("question", **other.environment).stdout == "1 in W&B already\n"
    # The first one has it all, and is not given it twice.
    assert harness_sync("question").rc == 0
    assert stored(backend, run).states == ["running", "finished"]


@pytest.mark.slow
def test_a_run_arrives_whole_whatever_is_left_of_the_clients_own_log(
    tmp_path: Path, backend: FakeWandb, offline: Environment, harness_sync: Sync
) -> None:
    original = RunDirectory(tmp_path / "original")
    write_config(original, tracking={"system_metrics": True})
    attempted(original, offline, 0, 40, state="complete")
    for name, kept in {"whole": None, "torn": 1000, "empty": 0}.items():
        run = copy_as_another(original, tmp_path / "runs" / name, name)
        [log] = clients_logs(run)
        log.write_bytes(log.read_bytes()[:kept])
    gone = copy_as_another(original, tmp_path / "runs" / "gone", "gone")
    shutil.rmtree(clients_logs(gone)[0].parent)
    logs = {log: log.read_bytes() for log in tmp_path.glob("runs/*/wandb/offline-run-*/*.wandb")}
    done = harness_sync("--json")
    assert done.rc == 0, done
    assert sorted(key[2] for key in backend.runs) == ["empty", "gone", "torn", "whole"]
    for found in backend.runs.values():
        assert rows_in_wandb(found) == own_rows(original), found.id
        assert (found.state, found.events) == ("finished", {}), "nothing is measured of the machine that uploads"
    assert {log: log.read_bytes() for log in logs} == logs
    assert all(log.with_name(f"{log.name}.synced").exists() for log in logs), "the client's own sync leaves them out"


@pytest.mark.slow
def test_a_run_that_failed_before_its_first_row_is_a_failed_run(
    tmp_path: Path, backend: FakeWandb, offline: Environment, harness_sync: Sync
) -> None:
    run = RunDirectory(tmp_path / "runs" / "single")
    write_config(run, lr=0.5)
    attempted(run, offline, 0, -1, state="failed")
    assert harness_sync().rc == 0
    found = stored(backend, run)
    assert (found.state, found.rows, found.summary["state"], found.config["optim"]["lr"]) == ("failed", [], "failed", 0.5)
    assert harness_sync().stdout == "1 in W&B already\n"


def synced(runs: list[RunDirectory], environment: Environment, upload_seconds: int) -> list[tuple[str, str | None]]:
    os.environ.update(environment)
    from harness.tracking import server
    from harness.tracking.upload import sync_runs

    server.REQUEST_SECONDS = upload_seconds
    outcomes = sync_runs(runs, done=lambda _: None, upload_seconds=upload_seconds)
    return [(outcome.outcome, outcome.reason) for outcome in outcomes]


@pytest.mark.slow
def test_a_server_that_refuses_for_a_while_gets_everything_and_one_that_always_does_is_told_of(
    tmp_path: Path, backend: FakeWandb, offline: Environment, harness_sync: Sync
) -> None:
    run = RunDirectory(tmp_path / "runs" / "single")
    write_config(run)
    attempted(run, offline, 0, 20, state="complete")

    backend.refusal = lambda kind, _: 500 if kind == "file_stream" else None
    [(outcome, reason)] = forked(synced, [run], {**offline, **backend.environment}, upload_seconds=4)
    assert outcome == "failed"
    assert reason
    assert not is_synced(run)
    assert not list(run.path.glob("wandb/*/*.synced"))

    left = {"graphql": [429, 500], "file_stream": [429, 500]}
    backend.refusal = lambda kind, _: left[kind].pop() if left[kind] else None
    done = harness_sync("single", "--json")
    assert done.rc == 0, done
    assert not any(left.values())
    assert document(done)["synced"][0]["rows"] == 21
    assert rows_in_wandb(stored(backend, run)) == own_rows(run)


@pytest.mark.slow
def test_a_server_that_answers_nothing_is_one_error(tmp_path: Path, backend: FakeWandb, offline: Environment) -> None:
    run = RunDirectory(tmp_path / "runs" / "single")
    write_config(run)
    backend.refusal = lambda kind, _: 500 if kind == "graphql" else None
    with pytest.raises(TrackingError, match="W&B: "):
        forked(synced, [run], {**offline, **backend.environment}, upload_seconds=2)


@pytest.mark.slow
@pytest.mark.parametrize("refused", ["UpsertBucket", "file_stream"])
def test_a_server_that_takes_no_run_is_not_tried_for_each(
    tmp_path: Path, backend: FakeWandb, offline: Environment, harness_sync: Sync, refused: str
) -> None:
    original = RunDirectory(tmp_path / "original")
    write_config(original)
    attempted(original, offline, 0, 5, state="complete")
    runs = [copy_as_another(original, tmp_path / "runs" / f"run-{number}", f"copy{number}") for number in range(21)]
    backend.refusal = lambda kind, name: 500 if refused in (kind, name) else None
    outcomes = forked(synced, runs, {**offline, **backend.environment}, upload_seconds=4)
    assert [outcome for outcome, _ in outcomes] == ["failed"] * 21
    # The first alone, eight beside each other, and those that began while seven of these failed.
    assert sum("not tried" in str(reason) for _, reason in outcomes) >= 4
    backend.refusal = None
    done = harness_sync("--json")
    assert done.rc == 0, done
    assert all(rows_in_wandb(stored) == own_rows(original) for stored in backend.runs.values())
    assert len(backend.runs) == 21


@pytest.mark.slow
def test_a_sync_that_was_killed_goes_on_where_it_was(
    tmp_path: Path, backend: FakeWandb, offline: Environment, environment: Environment, harness_sync: Sync, mark: str
) -> None:
    runs = [RunDirectory(tmp_path / "runs" / name) for name in ("a", "b")]
    for run in runs:
        write_config(run)
        attempted(run, offline, 0, 20, state="complete")
    # Everything of the one is taken, nothing of the other; then the sync is killed before it can look.
    first = identity_of_run(runs[0]).id
    backend.refusal = lambda kind, name: 500 if kind == "file_stream" and name != first else None
    env = {**os.environ, **environment, **backend.environment, "HARNESS_RUNS": str(tmp_path / "runs")}
    process = subprocess.Popen([HARNESS, "sync"], cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (first in {key[2] for key in backend.runs} and stored(backend, runs[0]).state == "finished"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.kill()
    process.wait()
    wait_for_the_end_of_all_with(mark)  # what it started ends with it
    backend.refusal = None
    done = harness_sync("--json")
    assert done.rc == 0, done
    assert {run["run"]: run["rows"] for run in document(done)["synced"]} == {"a": 0, "b": 21}
    for run in runs:
        assert rows_in_wandb(stored(backend, run)) == own_rows(run)


@pytest.mark.slow
def test_what_was_logged_online_is_looked_at_and_not_uploaded_again(
    tmp_path: Path, backend: FakeWandb, online: Environment, harness_sync: Sync
) -> None:
    run = RunDirectory(tmp_path / "runs" / "single")
    write_config(run)
    attempted(run, online, 0, 20, state="complete")
    states = list(stored(backend, run).states)
    done = harness_sync("--json")
    assert (done.rc, document(done)["synced"][0]["rows"]) == (0, 0), done
    assert stored(backend, run).states == states
    assert rows_in_wandb(stored(backend, run)) == own_rows(run)


@pytest.mark.slow
def test_a_study_that_runs_is_watched_until_its_workers_have_left(
    tmp_path: Path, backend: FakeWandb, offline: Environment, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A run is synced where it belongs: that is looked at here as well.
    for name, value in backend.environment.items():
        monkeypatch.setenv(name, value)
    study = study_in(tmp_path / "runs")
    first, second = trial_in(study, 0), trial_in(study, 1)
    attempted(first, offline, 0, 5, state="complete")
    worker = hold(study.worker_lock("worker"))
    assert worker is not None
    write_json(study.workers / "worker.json", {"id": "worker", "pid": os.getpid(), "host": socket.gethostname(), "started": time.time()})
    env = {**os.environ, **environment, **backend.environment, "HARNESS_RUNS": str(tmp_path / "runs")}
    process = subprocess.Popen([HARNESS, "sync", "question", "--watch", "--json"], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not is_synced(first):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    attempted(second, offline, 0, 5, state="complete")
    worker.release()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert [run["run"] for run in json.loads(output)["synced"]] == ["question/0000", "question/0001"]


@pytest.mark.slow
def test_what_cannot_be_synced_ends_in_one_message(tmp_path: Path, environment: Environment, backend: FakeWandb) -> None:
    root = tmp_path / "runs"
    env = {**environment, "HARNESS_RUNS": str(root)}
    assert "no such directory" in refused(run_harness("sync", cwd=tmp_path, env=env))
    run = RunDirectory(root / "single")
    write_config(run)
    run.metrics.append({"step": 0, "tokens": 0})
    end(run, "complete")
    (run.path / "wandb").mkdir()
    assert "unknown run 'nothing'" in refused(run_harness("sync", "nothing", cwd=tmp_path, env=env))
    (tmp_path / "empty").mkdir()
    assert "neither a study nor a run" in refused(run_harness("sync", "empty", cwd=tmp_path, env=env))
    assert "No API key configured" in refused(run_harness("sync", cwd=tmp_path, env=env))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = {**backend.environment, "WANDB_BASE_URL": f"http://127.0.0.1:{closed.getsockname()[1]}"}
        assert dead["WANDB_BASE_URL"] in refused(run_harness("sync", cwd=tmp_path, env={**env, **dead}, cold=True))
    assert "name the study" in refused(run_harness("sync", "--watch", cwd=tmp_path, env=env))


@pytest.mark.slow
def test_a_run_goes_where_it_was_meant_to_whatever_the_environment_says_by_now(
    tmp_path: Path, backend: FakeWandb, offline: Environment, harness_sync: Sync
) -> None:
    first, second = (RunDirectory(tmp_path / "runs" / name) for name in ("first", "second"))
    write_config(first)
    write_config(second, tracking={"project": "configured"})
    attempted(first, {**offline, "WANDB_PROJECT": "trained", "WANDB_ENTITY": "team"}, 0, 3, state="complete")
    attempted(second, offline, 0, 3, state="complete")
    assert harness_sync(WANDB_PROJECT="other", WANDB_ENTITY="mine").rc == 0
    ids = [identity_of_run(run).id for run in (first, second)]
    assert set(backend.runs) == {("team", "trained", ids[0]), ("mine", "configured", ids[1])}


@pytest.mark.slow
def test_a_hundred_runs_arrive_at_once(tmp_path: Path, backend: FakeWandb, offline: Environment, harness_sync: Sync) -> None:
    original = RunDirectory(tmp_path / "original")
    write_config(original)
    attempted(original, offline, 0, 20, state="complete")
    for number in range(100):
        copy_as_another(original, tmp_path / "runs" / f"run-{number}", f"copy{number}")
    done = harness_sync("--json")
    assert done.rc == 0, done
    assert len(document(done)["synced"]) == len(backend.runs) == 100
    assert all(rows_in_wandb(run) == own_rows(original) and run.states == ["running", "finished"] for run in backend.runs.values())


def copy_as_another(original: RunDirectory, path: Path, identity: str) -> RunDirectory:
    """A copy that is another run to W&B."""
    shutil.copytree(original.path, path)
    opened = read_json(path / "wandb" / "run.json")
    assert opened is not None
    write_json(path / "wandb" / "run.json", {**opened, "id": identity})
    return RunDirectory(path)


def clients_logs(run: RunDirectory) -> list[Path]:
    return list(run.path.glob("wandb/offline-run-*/run-*.wandb"))


def refused(done: Done) -> str:
    assert (done.rc, done.stdout) == (2, ""), done
    assert len(done.stderr.splitlines()) == 1, done
    return done.stderr
