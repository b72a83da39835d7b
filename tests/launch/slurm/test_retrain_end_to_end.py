"""`harness confirm --retrain launcher=slurm` as it is typed, on a real cluster: merges wait for the jobs that train their ingredients."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.files import read_yaml
from harness.runs.result import read_result
from harness.runs.submitted_jobs import read_jobs
from tests.support import warm
from tests.support.command import Done, call_harness
from tests.support.corpus import TinyText
from tests.support.slurm.cluster import Cluster, wait_for

CONFIRM = ("confirm", "merge", "--top", "1", "--seeds", "2", "--retrain")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1500)
def test_ingredients_are_trained_in_jobs_before_they_are_merged(
    slurm: Cluster, tiny_text: TinyText, tiny_model: Path, tmp_path: Path
) -> None:
    launcher = ["launcher=slurm", "launcher.gpus_per_node=0", f"launcher.python={warm.shared().programs / 'python'}"]

    def harness(*words: str) -> Done:
        done = call_harness(*words, cwd=tmp_path)
        assert done.rc == 0, done
        return done

    def wait() -> None:
        wait_for(lambda: not slurm.live_elements(), "all jobs to end", seconds=600)

    harness("train", *tiny_text.pretrained(tiny_model), "trainer.final_checkpoint=weights", "--dir", "runs/one")
    harness(
        "sweep",
        "merge",
        f"model.merge.base={tiny_model}",
        "model.merge.ingredients.one.path=one",
        f"model.merge.ingredients.base.path={tiny_model}",
        *(f"data.validation.{name}.path={path}" for name, path in (("domain", tiny_text.domain), ("general", tiny_text.general))),
        *(f"data.validation.{name}.max_tokens=300" for name in ("domain", "general")),
        "data.context_length=32",
        "trainer=cpu",
        "tracking=none",
        "budget.trials=2",
        "--workers",
        "1",
        *launcher,
    )
    wait()
    harness(*CONFIRM, *launcher, "--workers", "1")
    confirmation = StudyDirectory(tmp_path / "runs" / "merge-confirm")
    ingredients = [RunDirectory(path) for path in sorted((confirmation.path / "ingredients").iterdir())]
    assert [run.path.name for run in ingredients] == ["one-seed-1", "one-seed-2"]
    assert [read_jobs(run)[-1].purpose for run in ingredients] == ["run"] * 2
    wait()
    assert [read_result(run).state for run in ingredients] == ["complete"] * 2
    merged = [read_yaml(run.config)["model"]["merge"]["ingredients"]["one"]["path"] for run in confirmation.trials()]
    assert [Path(path).name for path in merged] == ["one-seed-1", "one-seed-2"]
    [candidate] = json.loads(harness(*CONFIRM, *launcher, "--json").stdout)["candidates"]
    assert len(set(candidate["values"].values())) == 2
    assert json.loads(harness("best", "merge", "--json").stdout)["confirmed"] is not None
