"""How a user's word for a run or a study becomes a directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config.errors import InputError
from harness.runs.directory import RunDirectory, StudyDirectory, find_run, find_study

Find = Callable[[str], RunDirectory | StudyDirectory]
KINDS = pytest.mark.parametrize(("find", "file"), [(find_run, "config.yaml"), (find_study, "sweep.yaml")], ids=["run", "study"])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a runs/ in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_RUNS", "runs")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def make(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("seed: 1\n")


@KINDS
@pytest.mark.parametrize(
    ("word", "place"),
    [
        ("mine", "runs/mine"),
        ("runs/mine", "runs/mine"),
        ("./mine", "mine"),
        ("../HERE/mine", "mine"),
        ("/HERE/mine", "mine"),
        ("~/mine", "home/mine"),
    ],
)
def test_what_begins_like_a_path_is_one(here: Path, find: Find, file: str, word: str, place: str) -> None:
    make(here / place / file, *([here / "runs" / "mine" / file] if place != "runs/mine" else []))
    word = word.replace("/HERE", str(here), 1) if word.startswith("/") else word.replace("HERE", here.name)
    assert find(word).path.resolve() == here / place


@KINDS
def test_a_name_that_is_a_path_too_is_refused(here: Path, find: Find, file: str) -> None:
    make(here / "runs" / "mine" / file, here / "mine" / file)
    with pytest.raises(InputError, match=r"'mine' is both runs/mine and \./mine: say which"):
        find("mine")
    assert find("runs/mine").path.resolve() == here / "runs" / "mine"


@KINDS
def test_the_same_directory_found_twice_is_one(here: Path, find: Find, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_RUNS", ".")
    make(here / "mine" / file)
    assert find("mine").path.resolve() == here / "mine"


def test_a_trial_by_number_of_a_study_s_path(here: Path) -> None:
    for study in (here / "runs" / "s", here / "s"):
        make(study / "sweep.yaml", study / "trials" / "0003" / "config.yaml")
    assert find_run("./s/3").path.resolve() == here / "s" / "trials" / "0003"
    assert find_run("runs/s/3").path.resolve() == here / "runs" / "s" / "trials" / "0003"
    with pytest.raises(InputError, match=r"'s/3' is both"):
        find_run("s/3")
