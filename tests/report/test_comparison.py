from __future__ import annotations

import csv
import io
import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.report.comparison import compare
from harness.report.json_csv import to_csv, to_json
from harness.runs.directory import RunDirectory
from harness.runs.files import write_yaml
from harness.runs.pareto import front
from harness.runs.record import Objective, RunRecord, StudyRecord, load_run, load_study
from harness.runs.result import Result
from harness.runs.space_values import value_of
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
    assert comparison.importances.shares == {}
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
    assert value_of(config, "schedule") == "wsd"
    assert value_of(config, "schedule.floor") == 0.0
    assert value_of(config, "model") is None
    assert value_of(config, "schedule.name.first") is None


def test_json_holds_what_the_design_promises(study: StudyRecord, tmp_path: Path) -> None:
    document = json.loads(json.dumps(to_json(compare([study], [single(tmp_path)])), allow_nan=False))
    keys = {"study", "number", "run", "directory", "state", "params", "objective", "feasible", "metrics"}
    keys |= {"within_noise", "seconds", "tokens", "attempts", "step", "reason", "pareto", "parent", "rung", "devices", "teachers"}
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


def test_no_cell_of_csv_is_a_formula(study: StudyRecord) -> None:
    """Spreadsheets run what begins like one; numbers stay numbers."""
    assert study.best is not None
    assert study.best.trial is not None
    evil = '=HYPERLINK("http://evil")'
    trial = replace(study.best.trial, params={**study.best.trial.params, "optim.lr": -1e-3})
    result = replace(study.best.result, metrics={**study.best.result.metrics, "@metric": -2.0}, reason=evil)
    row = next(csv.DictReader(io.StringIO(to_csv(compare([replace(study, runs=[replace(study.best, trial=trial, result=result)])], [])))))
    assert (row["'@metric"], row["optim.lr"], row["reason"]) == ("-2.0", "-0.001", f"'{evil}")


def test_the_table_imports_nothing_heavy() -> None:
    heavy = "plotly", "optuna", "sklearn", "numpy", "torch"
    code = f"import sys, harness.report.table, harness.report.page; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_front_holds_what_nothing_beats(study: StudyRecord) -> None:
    comparison = compare([study], [])
    complete = [run for run in study.runs if run.state == "complete"]

    def costs(run: RunRecord) -> tuple[float, float]:
        return run.result.metrics["val/python/loss"], run.result.metrics["val/english/forgetting"]

    def beats(one: RunRecord, other: RunRecord) -> bool:
        return costs(one) != costs(other) and all(a <= b for a, b in zip(costs(one), costs(other), strict=True))

    unbeaten = [run for run in complete if not any(beats(other, run) for other in complete)]
    assert comparison.pareto == sorted(unbeaten, key=costs)
    document = to_json(comparison)
    assert document["pareto"] == [run["run"] for run in sorted(document["runs"], key=lambda run: run["objective"] or 9) if run["pareto"]]
    rows = list(csv.DictReader(io.StringIO(to_csv(comparison))))
    assert [row["run"] for row in rows if row["pareto"] == "True"] == [run["run"] for run in document["runs"] if run["pareto"]]


@pytest.mark.parametrize(
    ("points", "kept"),
    [
        ([(1, 2), (2, 1), (2, 2)], [(1, 2), (2, 1)]),
        ([(1, 1), (1, 1)], [(1, 1), (1, 1)]),
        ([(1, 3), (1, 2)], [(1, 2)]),
        ([(1, 2, 3), (2, 1, 3), (1, 2, 4), (3, 3, 0)], [(1, 2, 3), (2, 1, 3), (3, 3, 0)]),
        ([], []),
    ],
)
def test_fronts_by_hand(points: list[tuple[float, ...]], kept: list[tuple[float, ...]]) -> None:
    assert front([(point, point) for point in points]) == kept


def test_several_objectives_have_a_front_and_columns(tmp_path: Path) -> None:
    objective = {
        "metric": "val/python/loss",
        "direction": "minimize",
        "also": [{"metric": "val/english/forgetting", "direction": "minimize"}],
    }
    study = load_study(write_study(tmp_path, sweep={"objective": objective, "constraints": {}}))
    comparison = compare([study], [])
    assert comparison.metrics[:2] == ["val/python/loss", "val/english/forgetting"]
    assert {run.number for run in comparison.pareto} == {run.number for run in study.pareto}
    assert len(comparison.pareto) > 1


def test_columns_are_what_differs_unless_all_are_asked_for(study: StudyRecord) -> None:
    alike = [run for run in study.runs if run.params.get("schedule") == "linear"]
    part = StudyRecord(study.directory, study.sweep, alike)
    comparison = compare([part], [])
    assert "schedule" not in comparison.columns
    assert "schedule" in compare([part], [], show_all=True).columns
    assert all(run["params"]["schedule"] == "linear" for run in to_json(comparison)["runs"])


def test_studies_that_differ_outside_their_spaces_show_it(tmp_path: Path) -> None:
    studies = [load_study(write_study(tmp_path, name=name, trials=3)) for name in ("one", "two")]
    for run in studies[1].runs:
        write_yaml(run.directory.config, {**run.config, "seed": 7})
    comparison = compare([studies[0], load_study(studies[1].directory)], [])
    assert comparison.parameters[-1] == "seed"
    assert [comparison.params(run)["seed"] for run in comparison.runs if run.study == "two"] == [7, 7, 7]


def test_runs_that_repeat_each_other_tell_the_noise_of_seeds(tmp_path: Path) -> None:
    runs = []
    for seed, loss in enumerate((2.0, 2.1, 2.2)):
        run = single(tmp_path / str(seed))
        write_yaml(run.directory.config, {**run.config, "seed": seed})
        result = replace(run.result, metrics={"val/python/loss": loss})
        runs.append(RunRecord(run.directory, result, state="complete"))
    other = single(tmp_path, **{"optim.lr": 2e-3})
    better = RunRecord(other.directory, replace(other.result, metrics={"val/python/loss": 1.0}), state="complete")
    comparison = compare([], [*runs, better], objective=Objective("val/python/loss"))
    assert comparison.noise is not None
    assert comparison.noise.sd == pytest.approx(0.1)
    # Student's t with two degrees of freedom, 97.5 %.
    assert comparison.noise.least_difference == pytest.approx(4.302653 * 0.1 * 2**0.5)
    assert comparison.runs[0] is better
    assert [comparison.within_noise(run) for run in comparison.runs] == [None, False, False, False]
    assert to_json(comparison)["noise"]["sd"] == pytest.approx(0.1)


def test_shared_tokens_and_parents_are_in_every_form(study: StudyRecord) -> None:
    document = to_json(compare([study], []))
    names = {run["run"] for run in document["runs"]}
    branches = [run for run in document["runs"] if run["tokens"]["shared"]]
    assert branches
    assert all(run["parent"] in names for run in branches)
    assert document["tokens"]["shared"] == sum(run["tokens"]["shared"] for run in branches)
