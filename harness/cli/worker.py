"""harness worker: one worker of a study. Launchers start it; users need not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from harness.runs.directory import StudyDirectory


def worker(study: Annotated[Path, typer.Argument(help="The study's directory.")]) -> None:
    """Pull trials of a study until nothing is left to do."""
    from harness.cli.attempt import attempt_trial
    from harness.cli.study_run import StudyRunUpdates
    from harness.search.worker import Worker

    directory = StudyDirectory(study)
    updates = StudyRunUpdates(directory)
    code = Worker(directory, attempt_trial, preload(directory), settled=updates.settled).work()
    updates.finish()
    raise typer.Exit(code)


def preload(study: StudyDirectory) -> list[str]:
    """What the warm server of a study's worker imports so that the children need not."""
    from harness.cli.attempt import PRELOAD

    return [*PRELOAD, "harness.cli.warm", *_model_modules(study)]


def _model_modules(study: StudyDirectory) -> list[str]:
    """The transformers module of the study's model: importing it takes longer than anything else before the first step."""
    from harness.runs.files import read_yaml

    model = read_yaml(study.sweep)["config"]["model"]
    family = model["family"]
    if model["path"]:
        try:
            family = json.loads((Path(model["path"]) / "config.json").read_bytes())["model_type"]
        except (OSError, ValueError, KeyError):
            return []  # a hub name, or a file that the trial will report on
    return [f"transformers.models.{family}.modeling_{family}"]
