"""A search whose runs are of several lengths: what is compared is of one length."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.report.comparison import compare
from harness.report.figures import finished
from harness.report.history import histories
from harness.report.importances import FANOVA_TRIALS, parameter_importances
from harness.report.panels import panels
from harness.runs.record import RunRecord, StudyRecord
from harness.work.study_snapshot import progress

FULL = 100_000


def of_length(run: RunRecord, tokens: int, rung: int) -> RunRecord:
    """The trial, as if it were of this length. One that ends early has forgotten little: here the objective is better."""
    assert run.trial is not None
    trial = replace(run.trial, params={**run.params, "trainer.max_tokens": tokens}, rung=rung)
    objective = run.result.objective
    shifted = None if objective is None else objective - (tokens < FULL)
    return replace(run, trial=trial, result=replace(run.result, objective=shifted))


@pytest.fixture
def trunk_search(study: StudyRecord) -> StudyRecord:
    """Every other trial has half of the length."""
    runs = [of_length(run, FULL // 2, 0) if (run.number or 0) % 2 else of_length(run, FULL, 1) for run in study.runs]
    return replace(study, runs=runs, sweep={**study.sweep, "config": {"trainer": {"max_tokens": FULL}}})


@pytest.fixture
def whole(trunk_search: StudyRecord) -> StudyRecord:
    """Its runs of full length alone."""
    return replace(trunk_search, runs=[run for run in trunk_search.runs if trunk_search.has_full_length(run)])


def test_importances_are_of_runs_of_full_length(trunk_search: StudyRecord, whole: StudyRecord) -> None:
    found = parameter_importances(trunk_search)
    assert found == parameter_importances(whole)
    assert found.note.startswith(f"rough: {len(finished(compare([whole], [])))} trials")


def test_the_best_so_far_is_of_full_length(trunk_search: StudyRecord, whole: StudyRecord) -> None:
    best = min(run.result.objective for run in whole.runs if run.result.objective is not None and run.result.feasible)
    traces = {trace.name: trace for trace in histories(compare([trunk_search], []))["trials"].data}
    assert min(traces["best so far"].y) == best
    assert len(traces["shorter run"].x) == sum(run.state == "complete" for run in trunk_search.runs) - len(finished(compare([whole], [])))
    assert "Open circles are shorter runs" in panels(compare([trunk_search], []))[0].note
    assert progress(trunk_search)[-1]["best/objective"] == best


def test_what_importances_are_shares_of_depends_on_the_method(study: StudyRecord) -> None:
    few = parameter_importances(study)
    assert few.of == "share of the objective's variance"
    assert "fANOVA" in few.note
    copies = (FANOVA_TRIALS // 10) * study.runs
    many = parameter_importances(replace(study, runs=copies))
    assert "variance" not in many.of
    assert "best tenth" in many.of
    assert "PED-ANOVA" in many.note
