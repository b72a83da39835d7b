"""optuna-dashboard on studies in both storages, while their workers are at work."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.runs.directory import StudyDirectory
from harness.runs.record import load_study
from harness.search import dashboard
from harness.search.dashboard import dashboard_server
from harness.search.load_sweep import load_sweep
from harness.search.open_study import open_study
from harness.search.shown_storage import ShownStorage
from harness.search.storage.build import open_storage
from harness.search.study import Claim, Study
from tests.search.conftest import BOTH_STORAGES, MakeSweep, WriteSweep
from tests.search.studies import Attempt, alive, optuna_trials


@pytest.fixture
def study(make_sweep: MakeSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Study]:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    sweep = make_sweep()
    directory = open_study(sweep)
    storage = open_storage(directory, "worker")
    storage.announce("worker")
    yield Study(directory, sweep, "worker", storage)
    storage.close()


def complete_a_trial(study: Study) -> None:
    claim = study.claim()
    assert isinstance(claim, Claim)
    study.prepare(claim)
    study.settle(claim, Attempt(claim.run).complete(2.5))


def answer(url: str, **more: Any) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, **more), timeout=30) as response:
        return json.load(response)


@pytest.mark.slow
@BOTH_STORAGES
def test_the_dashboard_follows_a_study_and_changes_nothing(study: Study) -> None:
    complete_a_trial(study)
    with dashboard_server(study.directory, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/api/studies"
        (summary,) = answer(url)["study_summaries"]
        # It keeps trials that it has read for ten seconds: these are asked for once.
        complete_a_trial(study)
        trials = answer(f"{url}/{summary['study_id']}?after=0")["trials"]
        assert [(trial["number"], trial["state"], trial["values"]) for trial in trials] == [(n, "Complete", [2.5]) for n in (0, 1)]
        assert {param["name"] for param in trials[0]["params"]} >= {"optim.lr", "schedule"}
        with pytest.raises(urllib.error.HTTPError, match="403"):
            answer(f"{url}/{summary['study_id']}", method="DELETE")
        server.shutdown()
    assert len(optuna_trials(study.directory)) == 2


@pytest.mark.parametrize(
    ("outcomes", "crowned"),
    [
        ([(2.5, 0.1), (1.5, 0.42), (2.0, 0.3)], 2),  # the constraint is broken by the trial with the least loss
        ([(2.5, 0.9), (1.5, 0.42)], 1),  # by all: the nearest
        ([(2.5, 0.1), (1.5, 0.2)], 1),
    ],
)
def test_the_dashboard_crowns_the_trial_that_we_do(make_sweep: MakeSweep, outcomes: list[tuple[float, float]], crowned: int) -> None:
    sweep = make_sweep(constraints={"val/general/forgetting": {"max": 0.3}})
    directory = open_study(sweep)
    with alive(directory, "w"):
        study = Study(directory, sweep, "w")
        for objective, forgetting in outcomes:
            claim = study.claim()
            assert isinstance(claim, Claim)
            study.settle(claim, Attempt(claim.run).complete(objective, **{"val/general/forgetting": forgetting}))
    record = load_study(directory)
    with dashboard_server(directory, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/api/studies"
        (summary,) = answer(url)["study_summaries"]
        shown = answer(f"{url}/{summary['study_id']}?after=0")
        server.shutdown()
    assert [trial["number"] for trial in shown["best_trials"]] == [crowned]
    assert record.best is None or record.best.number == crowned
    constraints = [trial["constraints"] for trial in shown["trials"]]
    assert [sum(values) for values in constraints] == pytest.approx([forgetting - 0.3 for _, forgetting in outcomes])
    facts = {attribute["key"]: attribute["value"] for attribute in shown["trials"][0]["user_attrs"]}
    assert facts["run"] == str(directory.trial(0).path)
    assert float(facts["val/general/forgetting"]) == outcomes[0][1]


def test_the_dashboard_shows_values_as_trials_have_them(write_sweep: WriteSweep) -> None:
    """Not the places of ordered choices, nor what lay between two valid batches."""
    space = {
        "trainer.batch_tokens": {"low": 64, "high": 512, "log": True},
        "data.packing": {"choices": ["padded", "concat", "best_fit"], "ordered": True},
    }
    sweep = load_sweep(str(write_sweep(space=space)), [])
    directory = open_study(sweep)
    study = Study(directory, sweep, "w")
    while isinstance(claim := study.claim(), Claim):
        assert study.prepare(claim)
        study.settle(claim, Attempt(claim.run).complete(1.0))
    storage = open_storage(directory).optuna_as(lambda log: ShownStorage(log, directory))
    shown = [trial.params for trial in storage.get_all_trials(0)]
    assert shown == [run.params for run in load_study(directory).runs]
    assert {params["trainer.batch_tokens"] % 32 for params in shown} == {0}
    assert {params["trainer.batch_tokens"] % 32 for params in (trial.params for trial in optuna_trials(directory))} != {0}


def test_of_several_objectives_the_front_is_ours(make_sweep: MakeSweep) -> None:
    other = {"metric": "val/domain/bits_per_byte", "direction": "minimize"}
    objective = {"metric": "val/domain/loss", "direction": "minimize", "also": [other]}
    sweep = make_sweep(objective=objective, constraints={"val/general/forgetting": {"max": 0.3}})
    directory = open_study(sweep)
    # The second is beaten by none, but breaks the constraint, and would hide the third.
    outcomes = [(2.5, 1.0, 0.1), (1.0, 1.5, 0.9), (2.0, 2.0, 0.2), (2.6, 2.1, 0.1)]
    with alive(directory, "w"):
        study = Study(directory, sweep, "w")
        for loss, bits, forgetting in outcomes:
            claim = study.claim()
            assert isinstance(claim, Claim)
            metrics = {"val/general/forgetting": forgetting, "val/domain/bits_per_byte": bits}
            study.settle(claim, Attempt(claim.run).complete(loss, **metrics))
    with dashboard_server(directory, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/api/studies"
        (summary,) = answer(url)["study_summaries"]
        shown = answer(f"{url}/{summary['study_id']}?after=0")
        server.shutdown()
    assert [trial["number"] for trial in shown["best_trials"]] == [0, 2]
    assert {run.number for run in load_study(directory).pareto} == {0, 2}


def test_a_damaged_trial_takes_no_other_one_along(study: Study) -> None:
    for _ in range(2):
        complete_a_trial(study)
    result = study.directory.trial(0).path / "result.json"
    result.write_text(result.read_text()[:20])
    with dashboard_server(study.directory, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/api/studies"
        (summary,) = answer(url)["study_summaries"]
        trials = answer(f"{url}/{summary['study_id']}?after=0")["trials"]
        server.shutdown()
    damaged, whole = ({fact["key"]: fact["value"] for fact in trial["user_attrs"]} for trial in trials)
    assert "result.json: damaged" in damaged["damaged"]
    assert "damaged" not in whole


def test_a_port_that_is_taken_is_said(study: Study) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InputError, match="--port 0 takes one that is free"):
        dashboard_server(study.directory, taken.getsockname()[1])


def test_a_missing_extra_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(dashboard.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'harness\[dashboard\]'"):
        dashboard_server(StudyDirectory(tmp_path), 0)


@pytest.mark.slow
def test_the_command_says_where_it_is(study: Study) -> None:
    command = [sys.executable, "-m", "harness", "dashboard", str(study.directory.path), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().split()[0]
        assert url.startswith("http://127.0.0.1:")
        assert answer(f"{url}api/studies")["study_summaries"][0]["study_name"]
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
