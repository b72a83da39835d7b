"""`harness confirm --retrain` with launcher=slurm, on a real cluster: a job for each ingredient, for which the merges' workers wait."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.config.launcher_schema import LauncherConfig
from harness.config.load import load
from harness.config.schema import IngredientConfig, MergeConfig
from harness.config.validate import to_plain
from harness.runs.confirmation_plan import ConfirmationPlan, confirmation_directory, ingredient_run, write_plan
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.files import read_yaml, write_yaml
from harness.runs.result import Result, write_result
from harness.runs.submitted_jobs import read_jobs
from harness.work.cluster import submit_workers
from harness.work.retrain import awaited_jobs, submit_retraining
from tests.support.slurm.cluster import Cluster

HELD = LauncherConfig(
    name="slurm", gpus_per_node=0, cpus_per_task=1, memory="500M", time="00:30:00", prepare="job", sbatch_options=["--hold"]
)
"""Nothing starts: what jobs do is seen elsewhere."""
NAMES, SEEDS = ("one", "two"), (1, 2)


@pytest.mark.slow
def test_workers_wait_for_the_jobs_that_train_ingredients(
    slurm: Cluster, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = load(tiny).config
    for seed, name in enumerate(NAMES, 1):
        (tmp_path / "runs" / name).mkdir(parents=True)
        write_yaml(tmp_path / "runs" / name / "config.yaml", to_plain(replace(config, seed=seed)))
    merge = MergeConfig(method="linear", ingredients={name: IngredientConfig(path=name) for name in NAMES})
    monkeypatch.setattr("harness.work.retrain._merge_of", lambda study: merge)
    study: Any = SimpleNamespace(name="mixed", directory=StudyDirectory(tmp_path / "runs" / "mixed"))
    confirmation = confirmation_directory(study.directory)
    confirmation.path.mkdir()
    plan = ConfirmationPlan("mixed", None, 1, [{"candidate": 0, "seed": seed} for seed in SEEDS], retrained=dict.fromkeys(NAMES, "{run}"))
    write_plan(confirmation, plan)
    write_yaml(confirmation.sweep, {"config": {"trainer": to_plain(config.trainer)}})

    def submitted() -> list[list[str]]:
        return [[job.purpose for job in read_jobs(run)] for run in runs]

    runs: list[RunDirectory] = [ingredient_run(confirmation, name, seed) for seed in SEEDS for name in NAMES]
    caplog.set_level("INFO")
    submit_retraining(study, confirmation, plan, launcher=HELD)
    assert submitted() == [["prepare", "run"]] * 4
    assert [read_yaml(run.config)["seed"] for run in runs] == [3, 4, 5, 6], "none that an ingredient was made with, and none twice"
    first = awaited_jobs(confirmation)
    assert first == [read_jobs(run)[-1].job for run in runs]
    assert f"{runs[0].path}: job {first[0]} trains it first" in caplog.text

    workers = submit_workers(confirmation, HELD, 1, after=first).job
    assert workers is not None
    assert f"#SBATCH --dependency=afterok:{':'.join(map(str, first))}\n" in Path(workers.script).read_text()
    submit_retraining(study, confirmation, plan, launcher=HELD)
    assert submitted() == [["prepare", "run"]] * 4, "nothing is submitted twice"
    more = replace(plan, runs=[*plan.runs, {"candidate": 0, "seed": 3}])
    with pytest.raises(InputError, match=r"1 workers of .*mixed-confirm would not wait for further ingredients; valid: when they have"):
        submit_retraining(study, confirmation, more, launcher=HELD)
    assert not ingredient_run(confirmation, "one", 3).path.exists()

    slurm.end_jobs()
    write_result(runs[0], Result(state="complete"))
    submit_retraining(study, confirmation, plan, launcher=HELD)
    assert submitted() == [["prepare", "run"], *[["prepare", "run"] * 2] * 3], "what ended well is not trained again"
    assert awaited_jobs(confirmation) == [read_jobs(run)[-1].job for run in runs[1:]]
