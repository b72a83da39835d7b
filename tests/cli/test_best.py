"""harness best: the winner of a study, and trials of it that are named."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.runs.directory import StudyDirectory
from harness.runs.result import read_result, write_result
from tests.report.synthetic_study import write_study

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyDirectory:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    # Nobody works on the trial that was running.
    return write_study(tmp_path, trials=8, states={2: "failed", 3: "pruned", 4: "running"})


@pytest.fixture
def best(study: StudyDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`harness best ARGUMENTS`: exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["harness", "best", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def test_a_trial_that_is_named_is_shown(best: Run, study: StudyDirectory) -> None:
    code, out, _ = best(f"{study.name}/1")
    assert code == 0
    assert out.startswith(f"{study.name}: trial 1, val/python/loss {read_result(study.trial(1)).objective:.4f}")


@pytest.mark.parametrize(("number", "state"), [(2, "failed"), (3, "pruned"), (4, "waiting")])
@pytest.mark.parametrize("options", [[], ["--json"], ["--export", "x"]])
def test_a_trial_that_is_not_complete_is_no_configuration_to_use(
    best: Run, study: StudyDirectory, number: int, state: str, options: list[str]
) -> None:
    code, out, err = best(f"{study.name}/{number}", *options)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {study.name}/{number}: the trial is {state}")
    assert err.count("\n") == 1
    assert not Path("conf").exists()


def test_a_metric_that_was_never_logged_is_absent(best: Run, study: StudyDirectory) -> None:
    result = read_result(study.trial(1))
    write_result(study.trial(1), dataclasses.replace(result, metrics={"val/python/loss": 2.5}))
    code, out, _ = best(f"{study.name}/1")
    assert code == 0
    assert "  val/english/forgetting —\n" in out
    code, out, _ = best(f"{study.name}/1", "--json")
    assert (code, json.loads(out)["metrics"]) == (0, {"val/python/loss": 2.5})


def outside(study: StudyDirectory, number: int, forgetting: float) -> None:
    """Put a complete trial outside of the study's constraint, forgetting <= 0.3."""
    result = read_result(study.trial(number))
    metrics = {**result.metrics, "val/english/forgetting": forgetting}
    write_result(study.trial(number), dataclasses.replace(result, metrics=metrics, feasible=False))


def test_a_trial_that_breaks_a_constraint_says_so(best: Run, study: StudyDirectory) -> None:
    outside(study, 1, 0.3724)
    code, out, _ = best(f"{study.name}/1")
    assert code == 0
    assert "  it breaks val/english/forgetting 0.3724 > 0.3\n" in out


def test_where_no_trial_is_within_the_constraints_the_nearest_is_named(best: Run, study: StudyDirectory) -> None:
    for run in study.trials():
        if read_result(run).state == "complete":
            outside(study, int(run.path.name), 0.4 + int(run.path.name))
    code, out, err = best(study.name)
    assert (code, out) == (1, "")
    assert "none of its 5 complete trials meets the constraints; nearest: val/english/forgetting 0.4 > 0.3" in err
    assert f"harness best {study.name}/0" in err
