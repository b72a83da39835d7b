"""A study in W&B as the harness logs it, written by the real client in a process of its own: `python -m … STUDY_DIRECTORY PROJECT`."""

from __future__ import annotations

import sys
from pathlib import Path

import wandb

from harness.runs.directory import StudyDirectory
from harness.runs.record import Objective, RunRecord, load_study
from harness.tracking.run_summary import summary_of
from harness.tracking.study_overview import ORDERED_SECTIONS, plan_summary


def log(directory: Path, project: str) -> None:
    study = load_study(StudyDirectory(directory))
    config = {"sweep": study.sweep, "order": {section: list(study.sweep[section]) for section in ORDERED_SECTIONS}}
    with wandb.init(project=project, id=study.name, name=study.name, group=study.name, job_type="study", config=config) as shown:
        shown.summary.update(plan_summary(study.directory))
    for run in study.runs:
        _log_run(run, study.name, project)


def _log_run(run: RunRecord, study: str, project: str) -> None:
    assert run.trial is not None
    tags = ["even" if run.trial.number % 2 == 0 else "odd"]
    with wandb.init(
        project=project, id=f"{study}-{run.number}", name=run.name, group=study, job_type="trial", tags=tags, config=run.config
    ) as logged:
        for row in run.rows:
            logged.log({key: value for key, value in row.items() if key != "step"}, step=row["step"])
        logged.summary.update(summary_of(run.result, run.rows, Objective("val/python/loss"), trial=run.trial))


if __name__ == "__main__":
    log(Path(sys.argv[1]), sys.argv[2])
