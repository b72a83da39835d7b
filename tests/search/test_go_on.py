"""A study that was launched goes on by its name, without what its launch was told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from harness.config.errors import InputError
from harness.config.launcher_schema import LauncherConfig
from harness.runs.directory import StudyDirectory, find_study
from harness.search.open_study import open_study
from harness.search.sweep import Sweep, thaw
from harness.work.start_study import follow_workers, read_sweep, resumed, start_missing
from tests.search.conftest import WriteSweep
from tests.search.studies import run_all
from tests.support.command import call_harness
from tests.support.corpus import TinyText

TOLD = ["optim.weight_decay=0.25", "search.seed=3", "budget.trials=2"]


SPACE = {"optim.lr": {"low": 1e-4, "high": 1e-1, "log": True}}


@pytest.fixture
def study(write_sweep: WriteSweep, composed_once: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyDirectory:
    """A study of sweeps/study.yaml, launched with overrides, in the working directory that its sweep file is found from."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweeps").mkdir()
    write_sweep(space=SPACE).rename(tmp_path / "sweeps" / "study.yaml")
    return open_study(read_sweep("study", TOLD))


def launched(sweep: Sweep) -> tuple[float, int, int | None, int]:
    config = sweep.config
    return sweep.base.config.optim.weight_decay, config.search.seed, config.budget.trials, config.launcher.workers


@pytest.mark.parametrize("again", [[], TOLD, TOLD[:1], TOLD[1:], ["search.seed=3", "optim.weight_decay=0.25"]])
def test_what_a_launch_was_told_need_not_be_told_again(study: StudyDirectory, again: list[str]) -> None:
    assert launched(read_sweep("study", again)) == (0.25, 3, 2, 1)


@pytest.mark.parametrize("word", ["study", "runs/study", "runs/study/sweep.yaml"])
def test_the_frozen_file_suffices(study: StudyDirectory, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_RUNS", str(study.path.parent))
    Path("sweeps/study.yaml").unlink()
    word = word.replace("runs", str(study.path.parent), 1)
    assert launched(read_sweep(word, ["budget.trials=16"], workers=4)) == (0.25, 3, 16, 4)
    assert launched(resumed(find_study(word.removesuffix("/sweep.yaml")), [])) == (0.25, 3, 2, 1)


def test_a_study_goes_on_where_its_relative_paths_begin(
    study: StudyDirectory, tiny_text: TinyText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = yaml.safe_load(study.sweep.read_text())
    assert document["directory"] == str(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HARNESS_RUNS", str(study.path.parent))
    assert launched(resumed(study, []))[2] == 2  # all its paths are absolute
    shutil.copy(tiny_text.domain, tmp_path / "here.jsonl")
    document["config"]["data"]["sources"]["domain"]["path"] = "here.jsonl"
    study.sweep.write_text(yaml.safe_dump(document))
    with pytest.raises(
        InputError, match=rf"sources\.domain\.path=here\.jsonl is relative to {tmp_path}, where it was launched; go on there: cd"
    ):
        resumed(study, [])


def test_budget_and_launcher_of_the_latest_launch_stay(study: StudyDirectory) -> None:
    open_study(resumed(study, ["budget.trials=16", "launcher.workers=3"]))
    assert launched(read_sweep("study", [])) == (0.25, 3, 16, 3)
    assert launched(thaw(study.sweep)) == (0.25, 3, 16, 3)


def test_a_file_that_was_edited_since_is_noticed_but_its_budget_may_grow(study: StudyDirectory) -> None:
    file = Path("sweeps/study.yaml")
    document = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**document, "budget": {"tokens": 100_000}}))
    assert read_sweep("study", []).config.budget.tokens == 100_000
    file.write_text(yaml.safe_dump({**document, "search": "tpe"}))
    with pytest.raises(
        InputError, match=r"launched with another sweep.*`harness resume study`[\s\S]*search\.name: random at launch, tpe now"
    ):
        read_sweep("study", [])
    assert resumed(study, []).config.search.name == "random"


def test_a_launcher_chosen_anew_has_nothing_of_the_earlier_one(study: StudyDirectory) -> None:
    cluster = resumed(study, ["launcher=slurm", "launcher.time=02:00:00", "launcher.workers=8"])
    assert (cluster.config.launcher.name, cluster.config.launcher.time) == ("slurm", "02:00:00")
    open_study(cluster)
    assert resumed(study, ["launcher=slurm", "budget.trials=9"]).config.launcher == cluster.config.launcher
    here = resumed(study, ["launcher=local"])
    assert here.config.launcher == LauncherConfig()
    assert here.given == (*TOLD, "launcher=local")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lr=1", r"'optim.lr=1': the study study goes on as it was launched; only budget and launcher can change"),
        ("search.seed=4", r"only budget and launcher"),
        ("space.optim.lr.low=1", r"only budget and launcher"),
        ("budget.trails=3", r"Did you mean 'budget.trials'"),
        ("budget.trials=0", r"budget.trials=0: expected"),
        ("budget.tokens=1", r"less than one trial"),
        ("launcher.time=1:00", r"no effect with launcher.name=local"),
    ],
)
def test_nothing_else_of_it_can_change(study: StudyDirectory, override: str, message: str) -> None:
    before = study.sweep.read_text()
    with pytest.raises(InputError, match=message):
        resumed(study, [override])
    assert study.sweep.read_text() == before


def test_a_password_is_not_kept(write_sweep: WriteSweep, composed_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "")
    sweep = read_sweep(str(write_sweep("secret", space=SPACE)), ["storage='postgresql://me:hush@db/harness'"])
    assert "hush" not in str(sweep.frozen())
    assert sweep.given == ("storage='postgresql://me@db/harness'",)


def test_the_verbs(study: StudyDirectory, tmp_path: Path) -> None:
    """In the command line: `resume` takes a study, and says what it cannot take."""
    done = call_harness("resume", "study", "budget.trials=16", "--workers", "3", "--dry-run", cwd=tmp_path)
    assert done.rc == 0, done
    assert "study: 3 workers would be started" in done.stderr
    script = call_harness("sweep", "study", "launcher=slurm", "--dry-run", cwd=tmp_path)
    assert script.rc == 0, script
    assert "#SBATCH" in script.stdout
    trial = study.trial(0)
    trial.path.mkdir(parents=True)
    trial.config.write_text("seed: 1\n")
    trial.trial.write_text("{}")
    assert "harness resume study" in call_harness("resume", "study/0", cwd=tmp_path).stderr
    assert "unknown run 'stody'" in call_harness("resume", "stody", cwd=tmp_path).stderr


def test_a_study_that_has_ended_starts_no_worker(study: StudyDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer is said again, for no more than it takes to read it; a larger budget starts them again."""
    started: list[int] = []
    monkeypatch.setattr("harness.launch.local.LocalWorkers._start", lambda workers: started.append(1))
    start_missing(study)
    assert started == [1]
    run_all(study, lambda trial: 1.0)
    assert follow_workers(study).status.is_finished
    assert started == [1]
    assert resumed(study, []).config.budget.trials == 2
    open_study(resumed(study, ["budget.trials=3"]))
    start_missing(study)
    assert started == [1, 1]
