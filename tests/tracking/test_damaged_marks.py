"""What W&B was told of a run or a study is written in small files: damaged ones are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.config.documents import DamagedError
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.tracking.identity import tracking_of_run, tracking_of_study
from harness.tracking.run_summary import objective_of
from harness.tracking.study_overview import published_url, published_version
from harness.tracking.wandb_directory import OpenedRun, read_opened
from harness.tracking.wandb_run import WandbTarget

DAMAGES: list[Any] = [[1], {}, {"id": {}}, {"id": "a", "entity": 5, "project": "p"}, {"id": "a", "entity": None}]
TARGET = WandbTarget(mode="online", project="p", entity=None, tags=[], system_metrics=False, metadata=False)


def write(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def test_an_older_mark_without_a_page_is_read(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert read_opened(run) is None
    write(run.wandb_opened, {"id": "a", "entity": None, "project": "p"})
    assert read_opened(run) == OpenedRun("a", None, "p")


@pytest.mark.parametrize("document", DAMAGES)
def test_a_damaged_mark_of_a_run_is_named(document: Any, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    write(run.wandb_opened, document)
    with pytest.raises(DamagedError, match=r"wandb/run\.json: damaged"):
        read_opened(run)


@pytest.mark.parametrize("document", [[1], {}, {"version": {}}, {"version": "1", "url": 5}, {"version": "1", "place": "here"}])
def test_a_damaged_mark_of_a_study_is_named(document: Any, tmp_path: Path) -> None:
    study = StudyDirectory(tmp_path)
    assert (published_url(study), published_version(study, TARGET)) == (None, None)
    write(tmp_path / "wandb" / "study-run.json", document)
    for ask in (lambda: published_url(study), lambda: published_version(study, TARGET)):
        with pytest.raises(DamagedError, match=r"wandb/study-run\.json: damaged"):
            ask()


@pytest.mark.parametrize("document", [{}, {"tracking": None}, {"tracking": []}])
def test_a_configuration_that_was_cut_is_named(document: Any, tmp_path: Path) -> None:
    run, study = RunDirectory(tmp_path), StudyDirectory(tmp_path)
    write(run.config, document)
    write(study.sweep, {"config": document})
    with pytest.raises(DamagedError, match=r"config\.yaml: damaged: tracking"):
        tracking_of_run(run)
    with pytest.raises(DamagedError, match=r"sweep\.yaml: damaged: config\.tracking"):
        tracking_of_study(study)


@pytest.mark.parametrize(
    "document", [{}, {"objective": None}, {"objective": "loss"}, {"objective": {"metric": 5}}, {"objective": {"direction": "minimize"}}]
)
def test_a_study_that_lost_its_objective_is_named(document: Any, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "trials" / "0000")
    assert objective_of(RunDirectory(tmp_path / "one")) is None
    write(run.trial, {})
    write(tmp_path / "sweep.yaml", document)
    with pytest.raises(DamagedError, match=r"sweep\.yaml: damaged: objective"):
        objective_of(run)
