"""The real client, against a backend of our own: what arrives there, and what training notices when something breaks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from harness.config.schema import TrackingConfig
from harness.runs.directory import RunDirectory
from harness.runs.generations import WrittenText
from harness.tracking.identity import identity_of_run, run_id
from harness.tracking.samples_table import samples_tables
from harness.tracking.wandb_directory import OpenedRun, read_opened, write_opened
from harness.tracking.wandb_run import WandbTarget
from tests.support.fake_wandb import FakeWandb, StoredRun
from tests.tracking.attempts import HYPERPARAMETERS, RUN_ID, attempt, forked, read_back, warm
from tests.tracking.studies import attempted, crowded, write_config

Environment = dict[str, str]

LOG_SECONDS = 0.2
"""No single log_metrics may take longer, on a busy machine, whatever is wrong with W&B."""


def losses(first: int, end: int) -> dict[int, dict[str, float | None]]:
    return {step: {"train/loss": 1 / (step + 1), "lr": 0.5, "val/docs/loss": None} for step in range(first, end)}


def as_read(rows: dict[int, dict[str, float | None]]) -> list[dict[str, float]]:
    return [{"_step": step, **{key: value for key, value in row.items() if value is not None}} for step, row in rows.items()]


def stored(backend: FakeWandb, project: str = "harness") -> StoredRun:
    return backend.runs[backend.entity, project, RUN_ID]


def stored_rows(run: StoredRun) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key not in ("_runtime", "_timestamp")} for row in run.rows]


def offline_runs(directory: Path) -> list[Path]:
    return sorted((directory / "wandb").glob("offline-run-*"))


def test_a_run_id_is_short_stable_and_tells_its_parts_apart() -> None:
    assert run_id("study", "7") == run_id("study", "7") == "55c88e39b534d7d6"
    assert len({run_id("study", "7"), run_id("study7"), run_id("study", "07"), run_id("stud", "y7")}) == 4
    assert run_id("a" * 1000).isalnum()
    assert len(run_id("a" * 1000)) <= 32


def test_a_single_run_keeps_its_id_and_its_place_whatever_becomes_of_its_configuration(tmp_path: Path) -> None:
    run = single_run(tmp_path / "run")
    first = identity_of_run(run).id
    write_opened(run, OpenedRun(first, None, "mine"))
    os.utime(run.config, (1, 1))
    write_opened(run, OpenedRun("another", "team", "other"))
    assert identity_of_run(run).id == first
    assert WandbTarget.of(TrackingConfig(project="theirs", entity="me")).as_opened(read_opened(run)).project == "mine"


def test_the_configuration_comes_first_then_the_environment_then_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert WandbTarget.of(TrackingConfig()) == WandbTarget(mode="offline", project="harness", entity=None, tags=[], system_metrics=False)
    for name, value in {"MODE": "disabled", "PROJECT": "env-project", "ENTITY": "env-entity"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    assert WandbTarget.of(TrackingConfig(tags=["a"])) == WandbTarget(
        mode="disabled", project="env-project", entity="env-entity", tags=["a"], system_metrics=False
    )
    given = TrackingConfig(mode="online", project="project", entity="entity", system_metrics=True)
    assert WandbTarget.of(given) == WandbTarget(mode="online", project="project", entity="entity", tags=[], system_metrics=True)


def single_run(directory: Path) -> RunDirectory:
    run = RunDirectory(directory)
    write_config(run)
    return run


@pytest.mark.slow
def test_an_online_run_is_read_back_as_it_was_logged(tmp_path: Path, backend: FakeWandb, online: Environment) -> None:
    rows = losses(0, 30)
    config = TrackingConfig(project="project", tags=["cpt", "night"])
    outcome = forked(attempt, tmp_path, online, rows, config=config, summary={"objective": 0.25, "best/val_loss": 0.5})
    assert outcome.warnings == []
    assert outcome.slowest_log_seconds < LOG_SECONDS
    [run] = forked(
        read_back, online, "project", {"group": "study", "config.optim.value.lr": 0.001, "summary_metrics.objective": {"$lt": 0.3}}
    )
    assert (run.id, run.name, run.state, run.group, run.job_type) == (RUN_ID, "study/0007", "finished", "study", "trial")
    assert run.tags == ["cpt", "night"]
    assert run.config == HYPERPARAMETERS
    assert run.rows == as_read(rows)
    assert run.summary == {"train/loss": 1 / 30, "lr": 0.5, "objective": 0.25, "best/val_loss": 0.5}
    assert forked(read_back, online, "project", {"summary_metrics.objective": {"$gt": 0.3}}) == []


def written(text: str, score: float | None, *, draw: int = 0) -> WrittenText:
    return WrittenText("sums", "a", "1 + 1 = ", draw, text, tokens=1, finish="stop", score=score)


def test_what_a_run_wrote_is_a_table_of_the_first_and_the_last_step(tmp_path: Path, backend: FakeWandb, online: Environment) -> None:
    generations = RunDirectory(tmp_path).generations
    generations.append(0, [written("3", 0.0), written("<b>", None, draw=1)])
    generations.append(10, [written("9", 0.0)])
    generations.append(20, [written("2", 1.0)])
    assert samples_tables(generations) == {
        "samples/sums": (
            ["id", "draw", "prompt", "text at step 0", "score at step 0", "text at step 20", "score at step 20"],
            [["a", 0, "1 + 1 = ", "3", 0.0, "2", 1.0], ["a", 1, "1 + 1 = ", "<b>", None, None, None]],
        )
    }
    outcome = forked(attempt, tmp_path, online, losses(0, 3), summary={"objective": 0.25})
    assert outcome.warnings == []
    run = stored(backend)
    assert (run.state, run.summary["objective"], run.summary["samples/sums"]["_type"]) == ("finished", 0.25, "table-file")
    assert (run.summary["samples/sums"]["nrows"], run.summary["samples/sums"]["ncols"]) == (2, 7)


@pytest.mark.slow
def test_an_offline_run_is_synced_as_it_was_logged(
    tmp_path: Path, backend: FakeWandb, environment: Environment, sync: Callable[[Path], str]
) -> None:
    rows = losses(0, 30)
    outcome = forked(attempt, tmp_path, environment, rows, summary={"objective": 0.25})
    assert outcome.warnings == []
    [offline] = offline_runs(tmp_path)
    assert backend.runs == {}
    sync(offline)
    assert (offline / f"run-{RUN_ID}.wandb.synced").exists()
    run = stored(backend)
    assert stored_rows(run) == as_read(rows)
    assert (run.state, run.display_name, run.group, run.job_type) == ("finished", "study/0007", "study", "trial")
    assert run.config == HYPERPARAMETERS
    assert run.summary["objective"] == 0.25


@pytest.mark.slow
def test_two_online_attempts_are_one_run(tmp_path: Path, backend: FakeWandb, online: Environment) -> None:
    first = forked(attempt, tmp_path, online, losses(0, 10), preempted=True)
    assert stored(backend).state == "preempted"
    second = forked(attempt, tmp_path, online, losses(10, 20))
    assert first.warnings == second.warnings == []
    assert list(backend.runs) == [(backend.entity, "harness", RUN_ID)]
    assert stored_rows(stored(backend)) == as_read(losses(0, 20))
    assert stored(backend).state == "finished"
    assert "failed" not in stored(backend).states


@pytest.mark.slow
def test_two_offline_attempts_are_one_run(
    tmp_path: Path, backend: FakeWandb, environment: Environment, sync: Callable[[Path], str]
) -> None:
    forked(attempt, tmp_path, environment, losses(0, 10), preempted=True)
    forked(attempt, tmp_path, environment, losses(10, 20))
    first, second = offline_runs(tmp_path)
    sync(first)
    assert stored(backend).state == "preempted"
    sync(second)
    assert len(list(tmp_path.glob("wandb/offline-run-*/*.synced"))) == 2
    assert list(backend.runs) == [(backend.entity, "harness", RUN_ID)]
    assert stored_rows(stored(backend)) == as_read(losses(0, 20))
    assert stored(backend).state == "finished"
    assert "failed" not in stored(backend).states


@pytest.mark.slow
def test_the_logs_of_an_offline_run_that_was_killed_hold_no_step_twice(
    tmp_path: Path, backend: FakeWandb, environment: Environment, sync: Callable[[Path], str]
) -> None:
    """What was not flushed is in metrics.jsonl alone, from which `harness sync` takes it."""
    run = single_run(tmp_path / "killed")
    attempted(run, {**environment, "WANDB_MODE": "offline"}, 0, 20, state=None)
    # From the checkpoint of step 10, over what was logged and flushed, logged and lost, and new.
    attempted(run, {**environment, "WANDB_MODE": "offline"}, 11, 30, attempt=2, state="complete")
    for log in offline_runs(run.path):
        sync(log)
    [found] = backend.runs.values()
    steps = [row["_step"] for row in found.rows]
    assert sorted(set(steps)) == steps
    # The client writes a row when the next one comes.
    assert {*range(20), *range(23, 31)} <= set(steps) <= set(range(31))


@pytest.mark.slow
def test_an_online_run_that_was_killed_has_every_step_once(tmp_path: Path, backend: FakeWandb, online: Environment) -> None:
    run = single_run(tmp_path / "killed")
    attempted(run, online, 0, 20, state=None)
    [found] = backend.runs.values()
    assert len(found.rows) < len(run.metrics.rows()), "the client sends rows together, and the last ones died with it"
    attempted(run, online, 16, 30, attempt=2, state="complete")
    assert list(backend.runs.values()) == [found]
    assert [row["_step"] for row in found.rows] == list(range(31))
    assert [row["train/loss"] for row in found.rows] == [row["train/loss"] for row in run.metrics.rows()]
    assert found.state == "finished"


@pytest.mark.slow
def test_rows_for_which_there_was_no_room_are_made_up_for(tmp_path: Path, backend: FakeWandb, online: Environment) -> None:
    run = single_run(tmp_path / "slow")
    slow = threading.Event()
    backend.refusal = lambda kind, _: 500 if kind == "graphql" and not slow.is_set() else None
    threading.Timer(4.0, slow.set).start()
    warnings = forked(crowded, run, online)
    assert warnings == ["W&B cannot keep up: it gets no further rows while 5 are waiting"]
    [found] = backend.runs.values()
    assert [row["_step"] for row in found.rows] == list(range(40))


@pytest.mark.slow
def test_a_failed_attempt_is_a_failed_run(tmp_path: Path, backend: FakeWandb, online: Environment) -> None:
    forked(attempt, tmp_path, online, losses(0, 3), status="failed")
    assert stored(backend).state == "failed"


@pytest.mark.slow
def test_children_of_a_warm_server_log_at_the_same_time(
    tmp_path: Path, backend: FakeWandb, environment: Environment, sync: Callable[[Path], str]
) -> None:
    with ProcessPoolExecutor(2, mp_context=warm) as pool:
        attempts = [pool.submit(attempt, tmp_path / name, environment, losses(first, first + 10)) for name, first in (("a", 0), ("b", 10))]
        assert [running.result(timeout=60).warnings for running in attempts] == [[], []]
    for name in ("a", "b"):
        [offline] = offline_runs(tmp_path / name)
        sync(offline)
    assert stored_rows(stored(backend)) == as_read(losses(0, 20))


@pytest.mark.slow
@pytest.mark.parametrize("status", [429, 500])
def test_a_server_that_refuses_for_a_while_gets_everything(tmp_path: Path, backend: FakeWandb, online: Environment, status: int) -> None:
    left = {"graphql": 2, "file_stream": 2}

    def refuse_at_first(kind: str, _: str) -> int | None:
        left[kind] -= 1
        return status if left[kind] >= 0 else None

    backend.refusal = refuse_at_first
    outcome = forked(attempt, tmp_path, online, losses(0, 10))
    assert outcome.warnings == []
    assert max(left.values()) < 0
    assert stored_rows(stored(backend)) == as_read(losses(0, 10))


@pytest.mark.slow
@pytest.mark.parametrize("status", [429, 500])
def test_a_server_that_always_refuses_is_given_up(tmp_path: Path, backend: FakeWandb, online: Environment, status: int) -> None:
    backend.refusal = lambda *_: status
    outcome = forked(attempt, tmp_path, online, losses(0, 10), online_finish_seconds=3)
    assert len(outcome.warnings) == 1
    assert "training goes on" in outcome.warnings[0]
    assert outcome.slowest_log_seconds < LOG_SECONDS
    assert outcome.finish_seconds < 6


@pytest.mark.slow
def test_a_server_that_stops_answering_later_is_given_up(tmp_path: Path, backend: FakeWandb, online: Environment) -> None:
    backend.refusal = lambda kind, _: 500 if kind == "file_stream" else None
    outcome = forked(attempt, tmp_path, online, losses(0, 10), online_finish_seconds=4, pause_seconds=1)
    assert outcome.finish_seconds < 7
    assert len(outcome.warnings) == 1


@pytest.mark.slow
def test_a_dead_server_is_given_up(tmp_path: Path, environment: Environment) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    dead = {**environment, "WANDB_MODE": "online", "WANDB_BASE_URL": f"http://127.0.0.1:{port}", "WANDB_API_KEY": "local-" + "0" * 40}
    outcome = forked(attempt, tmp_path, dead, losses(0, 10), online_finish_seconds=3)
    assert outcome.warnings == ["W&B is off for the rest of this attempt; training goes on. It did not finish within 3 s."]
    assert outcome.slowest_log_seconds < LOG_SECONDS
    assert outcome.finish_seconds < 6


@pytest.mark.slow
def test_a_slow_server_slows_no_step(tmp_path: Path, backend: FakeWandb, online: Environment) -> None:
    backend.refusal = lambda *_: time.sleep(1)
    outcome = forked(attempt, tmp_path, online, losses(0, 10))
    assert outcome.warnings == []
    assert outcome.slowest_log_seconds < LOG_SECONDS
    assert stored_rows(stored(backend)) == as_read(losses(0, 10))


@pytest.mark.slow
def test_project_and_entity_come_from_the_environment(tmp_path: Path, backend: FakeWandb, online: Environment) -> None:
    forked(attempt, tmp_path, {**online, "WANDB_PROJECT": "theirs", "WANDB_ENTITY": "team"}, losses(0, 3))
    assert list(backend.runs) == [("team", "theirs", RUN_ID)]


def test_a_client_that_cannot_start_is_said_once(tmp_path: Path, environment: Environment) -> None:
    outcome = forked(attempt, tmp_path, {**environment, "WANDB_MODE": "online"}, losses(0, 10), pause_seconds=0.5)
    assert len(outcome.warnings) == 1
    assert "No API key configured" in outcome.warnings[0]
    assert outcome.finish_seconds < 3


def test_an_impossible_mode_is_said_once(tmp_path: Path, environment: Environment) -> None:
    outcome = forked(attempt, tmp_path, {**environment, "WANDB_MODE": "sideways"}, losses(0, 10))
    assert len(outcome.warnings) == 1
    assert "sideways" in outcome.warnings[0]


def test_a_client_that_dies_is_said_once(tmp_path: Path, environment: Environment) -> None:
    outcome = forked(attempt, tmp_path, environment, losses(0, 10), pause_seconds=1.5, client_dies=True)
    assert len(outcome.warnings) == 1
    assert outcome.slowest_log_seconds < LOG_SECONDS
    assert outcome.finish_seconds < 3


def test_a_directory_that_cannot_be_written_is_said_once(tmp_path: Path, environment: Environment) -> None:
    (tmp_path / "file").touch()
    outcome = forked(attempt, tmp_path / "file" / "run", environment, losses(0, 10))
    assert len(outcome.warnings) == 1
    assert str(tmp_path / "file" / "run") in outcome.warnings[0]
    assert outcome.finish_seconds < 3


def test_disabled_means_that_nothing_is_written(tmp_path: Path, environment: Environment) -> None:
    assert forked(attempt, tmp_path, {**environment, "WANDB_MODE": "disabled"}, losses(0, 10), summary={"objective": 1.0}).warnings == []
    assert not (tmp_path / "wandb").exists()


PROGRAM = """
from pathlib import Path
from tests.tracking.attempts import attempt
print(attempt(Path({directory!r}), {{}}, {{0: {{"loss": 1.0}}}}).warnings)
"""


@pytest.mark.slow
def test_a_program_of_its_own_says_nothing_and_exits(tmp_path: Path, environment: Environment) -> None:
    program = PROGRAM.format(directory=str(tmp_path))
    process = subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "[]\n", "")
    assert len(offline_runs(tmp_path)) == 1


KILLER = """
import wandb
from harness.tracking.wandb_run import kill_client
run = wandb.init(mode="offline", dir={directory!r}, settings=wandb.Settings(silent=True))
kill_client()
"""


@pytest.mark.slow
def test_a_program_that_ends_right_after_its_client_was_killed_says_nothing(tmp_path: Path, environment: Environment) -> None:
    """As on a busy machine, where the thread that waits for the client has not noticed by then."""
    process = subprocess.run(
        [sys.executable, "-c", KILLER.format(directory=str(tmp_path))],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (process.returncode, process.stderr) == (0, "")
