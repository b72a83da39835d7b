"""What was submitted to Slurm, as it is read back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from harness.config.documents import DamagedError
from harness.runs.directory import StudyDirectory
from harness.runs.files import append_json_line
from harness.runs.submitted_jobs import SubmittedJob, jobs_file, read_jobs, record_job

JOB = SubmittedJob(job=12, tasks=2, submitted=1.5, script="#!/bin/bash\n", profile={"name": "slurm", "workers": 2})


def test_jobs_are_read_as_they_were_submitted(tmp_path: Path) -> None:
    study = StudyDirectory(tmp_path)
    assert read_jobs(study) == []
    record_job(study, JOB)
    assert read_jobs(study) == [JOB]
    assert JOB.elements == [0, 1]


@pytest.mark.parametrize("change", [{"job": "12 --clusters=x"}, {"tasks": []}, {"tasks": 10**9}, {"script": None}, {"profile": 5}])
def test_a_damaged_row_is_named(change: dict[str, Any], tmp_path: Path) -> None:
    study = StudyDirectory(tmp_path)
    record_job(study, JOB)
    append_json_line(jobs_file(study), {**asdict(JOB), **change})
    with pytest.raises(DamagedError, match=rf"jobs\.jsonl: damaged: {next(iter(change))}"):
        read_jobs(study)
