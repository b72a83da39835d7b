"""The jobs that train ingredients for `harness confirm --retrain`, without a cluster: slurm/test_retraining.py has one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.config.launcher_schema import LauncherConfig
from harness.launch.slurm.job_elements import JobElement
from harness.launch.slurm.states import parse_state
from harness.runs.confirmation_plan import ConfirmationPlan, ingredient_run, write_plan
from harness.runs.directory import StudyDirectory
from harness.runs.result import Result, write_result
from harness.runs.submitted_jobs import SubmittedJob, record_job
from harness.work import elastic
from harness.work.cluster import Submitted
from harness.work.retrain import awaited_jobs, submit_retraining
from harness.work.study_jobs import cancel_waiting, failed_ingredients, study_jobs

ALIVE = {12}


@pytest.fixture
def confirmation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyDirectory:
    """Of two seeds, for each of which a job (11, 12) trains an ingredient; those of ALIVE wait or run."""
    found = StudyDirectory(tmp_path / "mixed-confirm")
    found.path.mkdir()
    write_plan(found, ConfirmationPlan("mixed", None, 1, [{"candidate": 0, "seed": seed} for seed in (1, 2)], retrained={"one": "{run}"}))
    for seed in (1, 2):
        run = ingredient_run(found, "one", seed)
        run.path.mkdir(parents=True)
        record_job(run, SubmittedJob(job=10 + seed, purpose="run", submitted=0.0, script=""))

    def alive(jobs: Iterable[SubmittedJob]) -> list[Any]:
        return [SimpleNamespace(element=JobElement(job.job)) for job in jobs if job.job in ALIVE]

    monkeypatch.setattr("harness.work.retrain.alive_elements", alive)
    return found


def test_no_job_is_awaited_that_cannot_end_well(confirmation: StudyDirectory) -> None:
    """Slurm cancels what waits for a job that failed."""
    with pytest.raises(
        InputError, match=r"one-seed-1: an ingredient that is not trained, and no job is on it; valid: harness confirm mixed"
    ):
        awaited_jobs(confirmation)
    confirmation.trial(0).path.mkdir(parents=True)
    write_result(confirmation.trial(0), Result(state="failed"))
    assert awaited_jobs(confirmation) == [12], "its seed is no longer wanted"
    write_result(ingredient_run(confirmation, "one", 2), Result(state="complete"))
    assert awaited_jobs(confirmation) == []


def test_workers_that_are_added_wait_as_well(confirmation: StudyDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    write_result(ingredient_run(confirmation, "one", 1), Result(state="complete"))
    asked: dict[str, Any] = {}

    def submit_workers(study: StudyDirectory, launcher: LauncherConfig, wanted: int, **told: Any) -> Submitted:
        asked.update(wanted=wanted, **told)
        return Submitted(study, None)

    monkeypatch.setattr(elastic, "workforce", lambda study: ([], []))
    monkeypatch.setattr(elastic, "want_workers", lambda study, wanted: None)
    monkeypatch.setattr(elastic, "submit_workers", submit_workers)
    elastic.change_workers(confirmation, LauncherConfig(name="slurm"), add=2)
    assert asked == {"wanted": 2, "after": [12]}
    with pytest.raises(InputError, match="launcher=local: workers here would not wait for jobs 12, which train ingredients; valid"):
        elastic.change_workers(confirmation, LauncherConfig(), add=2)


def test_a_confirmation_counts_and_stops_its_ingredients_jobs(confirmation: StudyDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that run as well, which see no request of the study to stop, and each only once; of workers those that wait."""
    record_job(confirmation, SubmittedJob(job=20, tasks=2, submitted=0.0, script=""))
    states = {JobElement(11): "RUNNING", JobElement(12): "PENDING", JobElement(20, 0): "RUNNING", JobElement(20, 1): "PENDING"}

    def queue(jobs: set[int]) -> list[Any]:
        found = {element: parse_state(name) for element, name in states.items() if element.job in jobs}
        return [SimpleNamespace(element=element, state=state, gpus=0, reason=None) for element, state in found.items()]

    def cancel(elements: Iterable[JobElement]) -> None:
        states.update(dict.fromkeys(elements, "COMPLETING"))

    monkeypatch.setattr("harness.work.study_jobs.Slurm", lambda *_: SimpleNamespace(queue=queue, cancel=cancel))
    jobs = study_jobs(confirmation)
    assert jobs is not None
    assert jobs.lines()[0] == "jobs: 2 running, 2 waiting"
    assert cancel_waiting(jobs) == 3
    assert list(states.values()) == ["COMPLETING", "COMPLETING", "RUNNING", "COMPLETING"]
    again = study_jobs(confirmation)
    assert again is not None
    assert cancel_waiting(again) == 0


def test_why_an_ingredient_failed_is_said(
    confirmation: StudyDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = ingredient_run(confirmation, "one", 1)
    run.config.write_text("{}")
    write_result(run, Result(state="failed", reason="the loss is NaN"))
    assert failed_ingredients(confirmation) == {str(run.path): "the loss is NaN"}, "harness status shows it"
    monkeypatch.setattr("harness.work.retrain._wanted", lambda *_: [(None, run)])
    monkeypatch.setattr("harness.work.retrain.is_begun", lambda *_: True)
    monkeypatch.setattr("harness.work.retrain.count_workers", lambda _: 0)
    monkeypatch.setattr("harness.work.retrain.submit_run", lambda *_: SimpleNamespace(job=SimpleNamespace(job=13)))
    unread: Any = None
    caplog.set_level("INFO")
    submit_retraining(unread, confirmation, unread, launcher=LauncherConfig(name="slurm"))
    assert [record.getMessage() for record in caplog.records] == [
        f"{run.path}: failed: the loss is NaN",
        f"{run.path}: job 13 trains it first",
    ]
