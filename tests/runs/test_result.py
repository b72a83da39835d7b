"""result.json as others rely on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.config.errors import InputError
from harness.runs.directory import RunDirectory, find_run, new_run_directory
from harness.runs.result import Result, Tokens, read_result, write_result


def test_before_the_first_attempt(tmp_path: Path) -> None:
    assert read_result(RunDirectory(tmp_path)) == Result()
    assert Result().state == "waiting"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    result = Result(state="complete", metrics={"val/a/loss": 1.5}, tokens=Tokens(trained=3, budgeted=4, position=3), attempts=2)
    write_result(RunDirectory(tmp_path), result)
    assert read_result(RunDirectory(tmp_path)) == result


def test_keys_of_a_newer_version_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"state": "failed", "mood": "bad", "tokens": {"trained": 7, "dreamt": 1}}))
    result = read_result(RunDirectory(tmp_path))
    assert (result.state, result.tokens) == ("failed", Tokens(trained=7))


def test_directories_of_new_runs_never_meet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path))
    paths = {new_run_directory("my run/1").path for _ in range(5)}
    assert len(paths) == 5
    assert all(path.is_dir() and path.name.split("-", 2)[2].startswith("my-run-1") for path in paths)


def test_an_unknown_run_names_the_nearest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path))
    (tmp_path / "first-run").mkdir()
    (tmp_path / "first-run" / "config.yaml").write_text("")
    assert find_run("first-run").path == tmp_path / "first-run"
    assert find_run(str(tmp_path / "first-run")).path == tmp_path / "first-run"
    with pytest.raises(InputError, match=r"unknown run 'fist-run'.*Did you mean 'first-run'\?"):
        find_run("fist-run")


def test_a_study_s_name_or_a_number_that_it_lacks_is_told_its_trials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path))
    (tmp_path / "cpt").mkdir()
    (tmp_path / "cpt" / "sweep.yaml").write_text("")
    with pytest.raises(InputError, match=r"'cpt' names no run of the study .*cpt: it has no trial yet"):
        find_run("cpt")
    for number in range(3):
        (tmp_path / "cpt" / "trials" / f"{number:04d}").mkdir(parents=True)
    for word in ("cpt", "cpt/9"):
        with pytest.raises(InputError, match=rf"'{word}' names no run of the study .*: its trials are 0 to 2, e\.g\. cpt/0"):
            find_run(word)


def test_the_length_of_a_run_is_what_it_has_in_all() -> None:
    assert Tokens(budgeted=20, shared=80, trained=35, position=90).length == 100
    assert Tokens().length == 0
