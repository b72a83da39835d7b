"""A study in W&B as the harness logs it, written by the real client in a process of its own: `python -m … STUDY_DIRECTORY PROJECT`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import wandb

from harness.runs.directory import StudyDirectory
from harness.runs.record import RunRecord, load_study


def log(directory: Path, project: str) -> None:
    study = load_study(StudyDirectory(directory))
    with wandb.init(project=project, id=study.name, name=study.name, group=study.name, job_type="study", config={"sweep": study.sweep}):
        pass
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
        result = asdict(run.result)
        used = run.result.tokens
        tokens = {"tokens": used.trained, "tokens_shared": used.shared, "tokens_budgeted": used.budgeted}
        kept = ("state", "reason", "objective", "feasible", "step", "seconds", "attempts", "shared_from")
        told = {key: result[key] for key in kept if result[key] is not None}
        logged.summary.update({**run.result.metrics, **tokens, **told})


if __name__ == "__main__":
    log(Path(sys.argv[1]), sys.argv[2])
