"""`harness synth … launcher=slurm` as it is typed, on a real cluster."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.config.launcher_schema import LauncherConfig
from harness.runs.exit_codes import STOPPED
from harness.runs.submitted_jobs import read_jobs
from harness.synthesis.directory import SynthDirectory
from harness.synthesis.recipe import Recipe, load_recipe
from harness.work import synth_job
from harness.work.cluster import Submitted
from harness.work.synth import begin
from tests.support import warm
from tests.support.command import Done, call_harness
from tests.support.slurm.cluster import Cluster, wait_for

Write = Callable[..., Path]
SLURM = ["launcher=slurm", "launcher.gpus_per_node=0"]


def synth(tmp_path: Path, *words: str | Path) -> Done:
    return call_harness("synth", *words, cwd=tmp_path)


def status(tmp_path: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call_harness("status", name, "--json", cwd=tmp_path).stdout)
    return found


def data(path: Path) -> bytes:
    return (path / "dataset" / "data.jsonl").read_bytes()


def test_a_dry_run_prints_the_script_and_writes_nothing(recipe: Write, tmp_path: Path) -> None:
    path, before = recipe(), sorted(tmp_path.rglob("*"))
    done = synth(tmp_path, path, *SLURM, "launcher.workers=3", "--dir", "made", "--dry-run")
    assert done.rc == 0, done
    assert "#SBATCH --array=0-2\n" in done.stdout
    assert f"-m harness.work.synth_job {tmp_path / 'made'}" in done.stdout
    assert "--gres" not in done.stdout
    assert sorted(tmp_path.rglob("*")) == before
    assert "#SBATCH --array=0-6\n" in synth(tmp_path, path, *SLURM, "--workers", "7", "--dry-run").stdout
    refused = synth(tmp_path, path, "--dry-run")
    assert (refused.rc, "valid: with launcher=slurm" in refused.stderr) == (2, True)
    bad = synth(tmp_path, path, "launcher=slurm", "launcher.time=4", "--dir", "made")
    assert (bad.rc, "launcher.time=4: expected" in bad.stderr, (tmp_path / "made").exists()) == (2, True, False)


def test_what_is_submitted_is_told_as_json(recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def launch(loaded: Recipe, path: Path, launcher: LauncherConfig) -> Submitted:
        return Submitted(begin(loaded, path).directory, None, present=2)

    monkeypatch.setattr("harness.work.synth_cluster.launch_synth", launch)
    done = synth(tmp_path, recipe(), *SLURM, "--dir", "made", "--json")
    assert done.rc == 0, done
    assert json.loads(done.stdout) == status(tmp_path, "made")
    assert "2 workers already" in synth(tmp_path, recipe(), *SLURM, "--dir", "made").stdout


def test_the_last_worker_makes_the_data_set(recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recipe()
    assert synth(tmp_path, path, "--dir", "whole").rc == 0
    directory = begin(load_recipe(str(path), []), tmp_path / "made").directory
    claim = directory.claim(4, stopping=lambda: False)
    assert claim is not None
    assert synth_job.main(directory.path) == 0  # while another one works on its shard
    assert not directory.manifest.exists()
    claim.release()
    assert synth_job.main(directory.path) == 0
    assert data(directory.path) == data(tmp_path / "whole")
    assert status(tmp_path, "made")["state"] == "complete"
    made = directory.manifest.stat().st_mtime_ns

    def told(path: Path, *, stopping: Callable[[], bool], then: Callable[[SynthDirectory], None]) -> int:
        signal.raise_signal(signal.SIGTERM)
        assert stopping()
        then(directory)
        return 0

    monkeypatch.setattr(synth_job, "work", told)
    # A late one finds all made, and does not go back into the queue.
    assert (synth_job.main(directory.path), directory.manifest.stat().st_mtime_ns) == (0, made)
    with directory.changing() as ledger:
        ledger.of(1).done = False
    assert synth_job.main(directory.path) == STOPPED


@pytest.mark.slow
def test_jobs_make_what_one_process_makes(slurm: Cluster, recipe: Write, tmp_path: Path) -> None:
    path = recipe()
    assert synth(tmp_path, path, "--dir", "whole").rc == 0
    slow = recipe("texts", steps__text__draws=2)
    words = [slow, *SLURM, f"launcher.python={warm.shared().programs / 'python'}", "--workers", "2", "--dir", "made"]
    done = synth(tmp_path, *words)
    assert done.rc == 0, done
    [job] = read_jobs(SynthDirectory(tmp_path / "made"))
    assert f"job {job.job}, 2 workers" in done.stdout
    assert "harness stop" in done.stderr
    again = synth(tmp_path, *words)
    assert again.rc == 0, again
    wait_for(lambda: not slurm.live_elements(), "the jobs to end", seconds=240)
    found = status(tmp_path, "made")
    assert (found["state"], found["rows"], found["jobs_trouble"]) == ("complete", len(data(tmp_path / "made").splitlines()), None)
    assert data(tmp_path / "made") == data(tmp_path / "whole")
    # All texts are there: what only filters otherwise is made at once.
    done = synth(tmp_path, *words, "filters.characters.max=12", "--json")
    assert done.rc == 0, done
    assert json.loads(done.stdout)["rejected"]["filters.characters"]


@pytest.mark.slow
def test_jobs_are_stopped_and_the_same_command_goes_on(slurm: Cluster, recipe: Write, tmp_path: Path) -> None:
    path = recipe(steps__text__draws=64, steps__text__max_new_tokens=64, shard_rows=64)
    words = [path, *SLURM, f"launcher.python={warm.shared().programs / 'python'}", "--workers", "2", "--dir", "made"]
    assert synth(tmp_path, *words).rc == 0
    wait_for(lambda: status(tmp_path, "made")["answers"]["written"] > 10, "texts", seconds=240)
    stopped = call_harness("stop", "made", cwd=tmp_path)
    assert stopped.rc == 0, stopped
    assert "the same `harness synth` goes on" in stopped.stdout
    assert not slurm.live_elements()
    found = status(tmp_path, "made")
    assert (found["state"], found["budget"]["tokens"]["reserved"]) == ("waiting", 0)
    assert synth(tmp_path, *words).rc == 0
    wait_for(lambda: not slurm.live_elements(), "the jobs to end", seconds=240)
    assert status(tmp_path, "made")["state"] == "complete"
    rows = [json.loads(line)["id"] for file in (tmp_path / "made" / "shards").glob("*.jsonl") for line in file.read_text().splitlines()]
    assert len(rows) == len(set(rows)) == 8 * 64
