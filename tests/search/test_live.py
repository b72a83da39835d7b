"""The live view: what fits into a terminal of 100 columns, and the lines where there is none."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from harness.cli.sweep import end_lines
from harness.runs.directory import StudyDirectory
from harness.runs.files import append_json_line, read_yaml, write_yaml
from harness.runs.result import Tokens
from harness.runs.trial import read_trial, write_trial
from harness.search.open_study import open_study
from harness.search.status import read_status
from harness.search.study import Claim, Study
from harness.work import live
from harness.work.live import progress_share, render
from tests.search.conftest import MakeSweep
from tests.search.studies import Attempt, alive


@pytest.fixture
def directory(make_sweep: MakeSweep) -> Iterator[StudyDirectory]:
    """A study with a trial of every state: complete, complete out of bounds, failed, running."""
    sweep = make_sweep(budget={"trials": 9, "tokens": 1_000_000}, constraints={"val/general/forgetting": {"max": 0.2}})
    directory = open_study(sweep)
    study = Study(directory, sweep, "w")

    def begin() -> tuple[Claim, Attempt]:
        claim = study.claim()
        assert isinstance(claim, Claim)
        return claim, Attempt(claim.run)

    with alive(directory, "w"):
        claim, attempt = begin()
        study.settle(claim, attempt.complete(2.5))
        claim, attempt = begin()
        study.settle(claim, attempt.complete(1.5, **{"val/general/forgetting": 0.7}))
        claim, attempt = begin()
        study.settle(claim, attempt.fail("the loss of step 3 is nan (learning rate 0.09)"))
        claim, attempt = begin()
        _widen(directory)
        append_json_line(claim.run.path / "metrics.jsonl", {"step": 2, "tokens": 256, "train/loss": 3.25})
        yield directory
        attempt.lock.release()


def _widen(directory: StudyDirectory) -> None:
    """Give the study as many parameters as the quickstart has."""
    more = {"data.packing": "best_fit", "data.replay_share": 0.05}
    sweep = read_yaml(directory.sweep)
    sweep["space"] |= {key: {} for key in more}
    write_yaml(directory.sweep, sweep)
    for run in directory.trials():
        trial = read_trial(run)
        assert trial is not None
        write_trial(run, dataclasses.replace(trial, params={**(trial.params or {}), **more}))


def table(lines: list[str]) -> list[str]:
    """The rows below the headings and their line."""
    return lines[next(index for index, line in enumerate(lines) if line.startswith("──")) + 1 :]


def shown(directory: StudyDirectory, width: int, limit: int | None = 12) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(render(read_status(directory), limit=limit))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_everything_fits_into_a_hundred_columns(directory: StudyDirectory) -> None:
    lines = shown(directory, 100)
    assert all(len(line) <= 100 for line in lines)
    assert [line.split()[0] for line in lines if "…" in line] == ["2"], "a long reason alone is cut"
    assert lines[0] == "study  minimize val/domain/loss  val/general/forgetting ≤ 0.2"
    assert (
        " ".join(lines[1:3]).strip()
        == "1 complete  1 infeasible  1 failed  1 running  trials 3 (+ 1) of 9  tokens 1.02k (+ 512) of 1M  0 workers"
    )
    rows = table(lines)
    assert [line.split()[:2] for line in rows[:4]] == [["3", "running"], ["2", "failed"], ["1", "infeasible"], ["0", "complete"]]
    assert "loss 3.25" in rows[0]
    assert "the loss of step 3 …" in rows[1]
    assert "1.5000" in rows[2]
    assert rows[4].startswith("best so far: trial 0, val/domain/loss 2.5000"), "trial 1 breaks the constraint"


def test_progress_is_of_the_whole_length_of_a_run(directory: StudyDirectory) -> None:
    """Half of it was shared with a trunk, and what its own attempts train is reserved: its rows count from the beginning."""
    (run,) = (run for run in read_status(directory).study.runs if run.state == "running")
    result = dataclasses.replace(run.result, tokens=Tokens(shared=256, budgeted=256, position=256))
    share = progress_share(dataclasses.replace(run, result=result, trial=dataclasses.replace(run.trial, tokens=256)))
    assert share == pytest.approx(0.5)
    assert progress_share(dataclasses.replace(run, result=dataclasses.replace(run.result, tokens=Tokens()))) == pytest.approx(0.5)


def test_more_trials_than_lines_show_the_latest(directory: StudyDirectory) -> None:
    lines = shown(directory, 100, limit=2)
    assert [line.split()[0] for line in table(lines)[:2]] == ["3", "2"]
    assert "2 more; `harness compare study` ranks all" in "\n".join(lines)


def test_a_line_for_a_trial_that_ended(directory: StudyDirectory) -> None:
    status = read_status(directory)
    lines = [live._line(run, status) for run in status.study.runs[:3]]
    assert lines[0].startswith("trial 0: complete  val/domain/loss 2.5000  lr=")
    assert lines[1].startswith("trial 1: infeasible  val/domain/loss 1.5000  val/general/forgetting 0.7 > 0.2  lr=")
    assert lines[2].startswith("trial 2: failed  the loss of step 3 is nan (learning rate 0.09)  lr=")


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_a_narrow_terminal_loses_parameters_and_no_result(directory: StudyDirectory, columns: int) -> None:
    lines = shown(directory, columns)
    rows = table(lines)
    assert all(len(line) <= columns for line in lines)
    assert [line.split()[:2] for line in rows[:4]] == [["3", "running"], ["2", "failed"], ["1", "infeasible"], ["0", "complete"]]
    assert "1.5000" in rows[2]
    assert "0.7000 !" in rows[2]
    assert "Left out in this width: " in " ".join(lines)


def test_advice_can_be_followed(directory: StudyDirectory) -> None:
    """What a study ends with, when a trial is within the constraints, when none is, and when none is complete."""
    status = read_status(directory)
    (spent, after) = end_lines(status, "4 trials")
    assert spent.startswith("study: 4 trials; ")
    assert str(directory.path) in spent
    assert after == "study: next: harness compare study --html study.html; harness confirm study --top 1; harness best study --export NAME"
    outside = dataclasses.replace(status.study, runs=[run for run in status.study.runs if run.number != 0])
    *_, why, after = end_lines(dataclasses.replace(status, study=outside), "3 trials")
    assert why.endswith("no trial is complete and within the constraints; nearest: trial 1, val/general/forgetting 0.7 > 0.2")
    assert "harness confirm" not in after
    assert "harness best study/1 --export NAME" in after
    failed = dataclasses.replace(status.study, runs=[run for run in status.study.runs if run.number == 2])
    *_, why, after = end_lines(dataclasses.replace(status, study=failed), "1 trial")
    assert why.endswith("no trial is complete")
    assert after == "study: next: harness logs study/2"


def test_the_nearest_is_the_one_that_breaks_least_of_its_bounds(directory: StudyDirectory) -> None:
    study = read_status(directory).study
    first, second = (run for run in study.runs if run.number in (0, 1))
    assert study.nearest is second
    assert study.breaks(first) == []
    closer = dataclasses.replace(first, result=dataclasses.replace(first.result, feasible=False, metrics={"val/general/forgetting": 0.21}))
    assert dataclasses.replace(study, runs=[second, closer]).nearest is closer
    assert dataclasses.replace(study, runs=[]).nearest is None
