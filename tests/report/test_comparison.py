from __future__ import annotations

import csv
import io
import json
import random
import subprocess
import sys
from pathlib import Path

from harness.report.comparison import compare
from harness.report.document import to_csv, to_json
from harness.runs.directory import RunDirectory
from harness.runs.record import RunRecord, StudyRecord, load_run, load_study
from harness.runs.result import Result
from harness.runs.space_values import lookup
from tests.report.synthetic_study import write_run, write_study

HAND = {"optim.lr": 1e-3, "schedule": "cosine", "data.packing": "concat", "data.replay_share": 0.1}


def single(root: Path, **changes: object) -> RunRecord:
    return load_run(write_run(RunDirectory(root / f"hand{len(changes)}"), {**HAND, **changes}, random.Random(1)))


def test_trials_come_in_rank_order(study: StudyRecord) -> None:
    runs = compare([study], []).runs
    order = ["feasible" if run.result.feasible else "infeasible" if run.state == "complete" else run.state for run in runs]
    assert list(dict.fromkeys(order)) == ["feasible", "infeasible", "pruned", "failed", "waiting"]
    objectives = [run.result.objective for run in runs if run.result.feasible]
    assert objectives == sorted(objectives)
    assert compare([study], []).best == study.best == runs[0]


def test_a_maximised_objective_ranks_from_the_top(tmp_path: Path) -> None:
    sweep = {"objective": {"metric": "val/python/loss", "direction": "maximize"}, "constraints": {}}
    runs = compare([load_study(write_study(tmp_path, trials=6, sweep=sweep))], []).runs
    objectives = [run.result.objective or 0.0 for run in runs]
    assert objectives == sorted(objectives, reverse=True)


def test_columns_are_the_space_and_the_losses(study: StudyRecord) -> None:
    comparison = compare([study], [])
    assert comparison.parameters == ["optim.lr", "schedule", "schedule.decay_fraction", "data.packing", "data.replay_share"]
    assert comparison.metrics == ["val/python/loss", "val/english/forgetting", "val/english/loss"]


def test_a_single_run_stands_beside_a_study(study: StudyRecord, tmp_path: Path) -> None:
    run = single(tmp_path)
    comparison = compare([study], [run])
    assert comparison.runs[-1] is run
    # The decay fraction in its config is that of a schedule which it does not use.
    assert comparison.params(run) == HAND
    assert comparison.value(run) == run.result.metrics["val/python/loss"]
    assert comparison.feasible(run) is True
    assert comparison.best is not run


def test_a_trial_shows_its_configuration_at_the_keys_of_another_study(tmp_path: Path) -> None:
    narrow = {"space": {"optim.lr": {"low": 1e-4, "high": 3e-2, "log": True}}}
    first = load_study(write_study(tmp_path, trials=3))
    second = load_study(write_study(tmp_path, name="narrow", trials=3, sweep=narrow))
    comparison = compare([first, second], [])
    assert comparison.importances == {}
    assert all(comparison.params(run)["data.packing"] for run in comparison.runs)


def test_without_a_study_the_columns_are_the_keys_that_differ(tmp_path: Path) -> None:
    runs = [single(tmp_path), single(tmp_path, **{"optim.lr": 2e-3}), single(tmp_path, **{"optim.lr": 3e-3, "data.packing": "padded"})]
    comparison = compare([], runs)
    assert comparison.runs == runs
    assert set(comparison.parameters) == {"optim.lr", "data.packing"}
    assert comparison.params(runs[1]) == {"optim.lr": 2e-3, "data.packing": "concat"}
    assert comparison.best is None


def test_a_section_stands_for_its_kind() -> None:
    config = {"schedule": {"name": "wsd", "floor": 0.0}, "model": {"layers": 4}}
    assert lookup(config, "schedule") == "wsd"
    assert lookup(config, "schedule.floor") == 0.0
    assert lookup(config, "model") is None
    assert lookup(config, "schedule.name.first") is None


def test_json_holds_what_the_design_promises(study: StudyRecord, tmp_path: Path) -> None:
    document = json.loads(json.dumps(to_json(compare([study], [single(tmp_path)])), allow_nan=False))
    keys = {"study", "number", "run", "directory", "state", "params", "objective", "feasible", "metrics"}
    keys |= {"within_noise", "seconds", "tokens", "attempts", "step", "reason"}
    assert all(set(run) == keys for run in document["runs"])
    assert set(document["runs"][0]["tokens"]) >= {"trained", "shared", "budgeted"}
    assert document["runs"][0]["run"] == f"cpt_python/{document['runs'][0]['number']:04d}"
    assert document["runs"][-1]["study"] is None
    assert sum(document["importances"].values()) > 0.999


def test_json_has_no_numbers_that_json_does_not_have(study: StudyRecord) -> None:
    diverged = RunRecord(
        study.directory.trial(99), Result(state="complete", objective=float("nan"), metrics={"a": float("inf")}), "cpt_python"
    )
    document = to_json(compare([StudyRecord(study.directory, study.sweep, [*study.runs, diverged])], []))
    assert json.dumps(document, allow_nan=False)
    last = next(run for run in document["runs"] if run["run"].endswith("0099"))
    assert (last["objective"], last["metrics"]) == (None, {"a": None})


def test_csv_has_a_row_a_run_and_every_metric(study: StudyRecord) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(compare([study], [])))))
    assert len(rows) == len(study.runs)
    assert study.best is not None
    assert float(rows[0]["objective"]) == study.best.result.objective
    assert float(rows[0]["optim.lr"]) == study.best.params["optim.lr"]
    assert rows[0]["train/loss"]
    assert rows[-1]["val/python/loss"] == ""


def test_the_table_imports_nothing_heavy() -> None:
    heavy = "plotly", "optuna", "sklearn", "numpy", "torch"
    code = f"import sys, harness.report.table, harness.report.page; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
