"""A run's relative paths mean the same from everywhere, or it is said where they begin."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from harness.config.errors import InputError
from harness.config.load import load, load_given_file
from harness.config.trust import FILES_VARIABLE
from harness.config.validate import to_plain
from harness.runs.directory import RunDirectory
from harness.runs.files import write_json, write_yaml
from harness.runs.result import Result
from harness.runs.run_config import load_run_config
from tests.support.corpus import TinyText


@pytest.fixture
def run(tiny_text: TinyText, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    """A run that was started in proj/; the working directory is elsewhere/."""
    project = tmp_path / "proj"
    (project / "owner").mkdir(parents=True)
    shutil.copytree(tiny_model, project / "owner" / "model")
    for name in ("a.jsonl", "b.jsonl"):
        shutil.copy(tiny_text.domain, project / name)
    (project / "chatml").mkdir()
    monkeypatch.chdir(project)
    options = ["model=pretrained", "model.path=owner/model", "objective=sft", "data.chat_template=chatml", "trainer.max_steps=1"]
    options += ["data.sources.a.path=[a.jsonl,'*.jsonl']", f"data.validation.g.path={tiny_text.general}", "data.context_length=32"]
    found = RunDirectory(project / "runs" / "one")
    found.path.mkdir(parents=True)
    write_yaml(found.config, to_plain(load([*options, "trainer.batch_tokens=32"]).config))
    write_json(found.result, asdict(Result(directory=str(project))))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return found


def test_relative_paths_begin_where_the_run_was_started(run: RunDirectory, tiny_text: TinyText, monkeypatch: pytest.MonkeyPatch) -> None:
    project = run.path.parent.parent
    config = load_run_config(run)
    assert config.model.path == f"{project}/owner/model"
    assert config.data.sources["a"].path == [f"{project}/a.jsonl", f"{project}/*.jsonl"]
    assert config.data.validation["g"].path == str(tiny_text.general)
    assert config.data.chat_template == "chatml"
    monkeypatch.chdir(project)
    assert load_run_config(run).data.sources["a"].path == ["a.jsonl", "*.jsonl"]


def test_a_project_that_was_moved_is_its_own_place(run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "proj").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    assert load_run_config(RunDirectory(Path("runs/one"))).model.path == "owner/model"


def test_what_is_not_there_any_more_is_said_with_the_place(run: RunDirectory) -> None:
    project = run.path.parent.parent
    (project / "a.jsonl").unlink()
    with pytest.raises(InputError, match=rf"a\.path=a\.jsonl: no such[\s\S]*relative paths of {run.path} begin in {project}, where it was"):
        load_run_config(run)
    with pytest.raises(InputError) as other:
        load_run_config(run, ["data.sources.a.path='*.jsonl'", "optim.lr=-1"])
    assert "begin in" not in str(other.value)


def test_a_configuration_that_may_be_a_strangers_names_no_place_of_mine(
    run: RunDirectory, tiny_text: TinyText, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=rf"a\.path=a\.jsonl: no such[\s\S]*begin in {run.path.parent.parent}"):
        load_given_file(run.config, [f"data.validation.g.path={tiny_text.general}"])
    monkeypatch.setenv(FILES_VARIABLE, str(run.config))
    assert load_given_file(run.config).model.path == f"{run.path.parent.parent}/owner/model"
