"""`harness … launcher=slurm` as it is typed, on a real cluster, with real training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.runs.directory import StudyDirectory
from harness.runs.submitted_jobs import read_jobs
from tests.support import warm
from tests.support.command import Done, call_harness
from tests.support.slurm.cluster import Cluster, wait_for

SLURM = ["launcher=slurm", "launcher.gpus_per_node=0"]
Harness = Callable[..., Done]


@pytest.fixture
def home(tmp_path: Path, tiny: list[str]) -> Path:
    """A working directory, whose name has a space, with a sweep of two short trials."""
    home = tmp_path / "my project"
    home.mkdir()
    document = {
        "base": tiny,
        "objective": {"metric": "val/domain/loss"},
        "space": {"optim.lr": {"low": 1e-4, "high": 1e-1, "log": True}},
        "search": "random",
        "budget": {"trials": 2},
    }
    (home / "question.yaml").write_text(yaml.safe_dump(document))
    return home


@pytest.fixture
def harness(home: Path) -> Harness:
    """In this process: what trains is a job's. docs/guides/slurm.md is run with processes of their own."""
    return lambda *arguments: call_harness(*arguments, cwd=home, env={"HARNESS_RUNS": str(home / "runs")})


@pytest.fixture(scope="module")
def warm_jobs() -> str:
    """For jobs that nobody kills: these import nothing."""
    return f"launcher.python={warm.shared().programs / 'python'}"


def status(harness: Harness, study: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(harness("status", study, "--json").stdout)
    return document


def content(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.slow
def test_a_study_is_submitted_finished_and_confirmed_by_jobs_alone(slurm: Cluster, home: Path, harness: Harness, warm_jobs: str) -> None:
    done = harness("sweep", "./question.yaml", *SLURM, warm_jobs, "--workers", "2")
    study = StudyDirectory(home / "runs" / "question")
    (job,) = read_jobs(study)
    assert done.rc == 0, done
    assert f"job {job.job}, 2 workers" in done.stdout
    assert "harness status question" in done.stderr
    wait_for(lambda: not slurm.live_elements(), "all workers to leave", seconds=240)
    found = status(harness, "question")
    assert found["finished"], found
    assert [trial["state"] for trial in found["trials"]] == ["complete", "complete"]
    assert content(study.workers / "slurm").count(f"{job.job}_0.log") == 1
    cards = [json.loads(path.read_text()) for path in study.workers.glob("*.json")]
    assert f"{job.job}_0" in [card["job"] for card in cards]

    finished = harness("sweep", "./question.yaml", *SLURM)
    assert (finished.rc, finished.stdout) == (0, f"{study.path}: finished, nothing was submitted\n")
    before = content(home)
    shown = harness("confirm", "question", *SLURM, "--top", "1", "--seeds", "2", "--workers", "3", "--dry-run")
    assert shown.rc == 0, shown
    assert "#SBATCH --array=0-2\n" in shown.stdout
    assert "question-confirm" in shown.stdout
    assert harness("confirm", "question", *SLURM, "--top", "9", "--dry-run").rc == 2
    assert harness("confirm", "question", "launcher=local", "--dry-run").rc == 2
    assert content(home) == before
    confirmed = harness("confirm", "question", *SLURM, warm_jobs, "--top", "1", "--seeds", "2")
    assert confirmed.rc == 0, confirmed
    assert "question-confirm: job" in confirmed.stdout
    wait_for(lambda: not slurm.live_elements(), "all workers to leave", seconds=240)
    assert "question" in harness("confirm", "question", "--top", "1", "--seeds", "2").stdout
    assert status(harness, "question")["best"]["confirmed"]


@pytest.mark.slow
@pytest.mark.long
def test_workers_come_and_go_while_a_study_runs(slurm: Cluster, home: Path, harness: Harness) -> None:
    long = ["trainer.max_steps=1000000", "trainer.checkpoint_every_steps=1000", *SLURM]
    sweep = ["sweep", "./question.yaml", *long, "budget.trials=8", "--workers", "1"]
    assert harness(*sweep).rc == 0
    again = harness(*sweep)
    assert "question: 1 worker already, none was submitted" in again.stdout, again
    study = StudyDirectory(home / "runs" / "question")

    def living() -> list[dict[str, Any]]:
        return list(status(harness, "question")["workers"])

    wait_for(lambda: len(living()) == 1, "the worker to join", seconds=120)
    (first,) = living()
    added = harness("workers", "question", "--add", "1")
    assert "1 worker, beside 1 that wait or run already" in added.stdout, added
    local = harness("workers", "question", "launcher=local", "--to", "3")
    assert "1 worker started on this machine, beside 2" in local.stdout, local
    assert status(harness, "question")["missing_workers"] <= 2
    wait_for(lambda: len(living()) == 3, "all to join", seconds=120)
    assert sorted(worker["job"] is None for worker in living()) == [False, False, True]
    assert harness("workers", "question", "--to", "3").stdout.endswith("3 workers already\n")
    assert "2 workers dismissed" in harness("workers", "question", "--to", "1").stdout
    wait_for(lambda: [worker["id"] for worker in living()] == [first["id"]], "the later two to leave", seconds=120)
    wait_for(lambda: len(slurm.live_elements()) == 1, "their job to end")
    assert status(harness, "question")["missing_workers"] == 0
    assert harness("workers", "question").rc == 2
    assert harness("stop", "question").rc == 0
    wait_for(lambda: not slurm.live_elements(), "the last one to end")
    assert harness("workers", "question", "--add", "1").rc == 2
    assert not [trial for trial in status(harness, "question")["trials"] if trial["state"] in ("failed", "running")]
    assert len(read_jobs(study)) == 2


@pytest.mark.slow
@pytest.mark.long
def test_a_single_run_is_submitted_and_goes_on_in_another_job(slurm: Cluster, home: Path, harness: Harness, tiny: list[str]) -> None:
    long = ["trainer.max_steps=1000000", "trainer.checkpoint_every_steps=1000"]
    submitted = harness("train", *tiny, *long, *SLURM, "launcher.prepare=job", "--dir", "a run")
    assert (submitted.rc, submitted.stdout) == (0, "a run\n"), submitted
    assert "tokenizes first" in submitted.stderr
    run = home / "a run"
    wait_for(lambda: (run / "metrics.jsonl").exists() and len((run / "metrics.jsonl").read_text().splitlines()) > 3, "steps", seconds=120)
    twice = harness("resume", "a run", *SLURM)
    assert twice.rc == 2, twice
    assert "works on it" in twice.stderr or "another process works" in twice.stderr
    slurm.end_jobs()
    kept = list((run / "checkpoints").iterdir())
    assert kept, "a cancelled run saves a checkpoint"
    before = content(home)
    shown = harness("resume", "a run", *SLURM, "launcher.time=02:00:00", "--dry-run")
    assert (shown.rc, content(home), slurm.live_elements()) == (0, before, []), shown
    assert "#SBATCH --time=02:00:00\n" in shown.stdout
    assert "harness attempt" in shown.stdout
    resumed = harness("resume", "a run", *SLURM)
    assert resumed.rc == 0, resumed
    rows = len((run / "metrics.jsonl").read_text().splitlines())
    wait_for(lambda: len((run / "metrics.jsonl").read_text().splitlines()) > rows, "further steps", seconds=120)
    result = json.loads((run / "result.json").read_text())
    assert result["attempts"] == 2


@pytest.mark.slow
def test_nothing_is_left_of_what_is_only_shown_or_refused(slurm: Cluster, home: Path, harness: Harness, tiny: list[str]) -> None:
    before = content(home)
    shown = harness("sweep", "./question.yaml", *SLURM, "--dry-run", "--workers", "5")
    assert shown.rc == 0, shown
    assert "#SBATCH --array=0-4\n" in shown.stdout
    run = harness("train", *tiny, *SLURM, "--dry-run")
    assert "harness attempt" in run.stdout, run
    for verb in (["sweep", "./question.yaml"], ["train", *tiny]):
        refused = harness(*verb, *SLURM, "launcher.partition=nowhere")
        assert refused.rc == 2, refused
        assert refused.stdout == ""
        assert "invalid partition specified: nowhere" in refused.stderr
        assert "asked for: --partition=nowhere" in refused.stderr
    wrong = harness("train", *tiny, *SLURM, "launcher.time=4:00")
    assert wrong.rc == 2, wrong
    assert "launcher.time=4:00: expected" in wrong.stderr
    assert content(home) == before or content(home) == sorted([*before, "runs"])
    assert not slurm.live_elements()
