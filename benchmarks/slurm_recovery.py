"""What interruptions cost on Slurm, and what Slurm costs: a real cluster of four virtual nodes on this machine.

    python -m benchmarks.slurm_recovery [--trials 16] [--steps 400] [--preemptions 3]

Needs Slurm (the Debian packages that .ci/run installs). Four workers in an array against four local ones on the same study; then one
trial that is preempted again and again, by a partition of higher priority, and one whose node fails as often.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.workload import require
from harness.runs.directory import StudyDirectory
from harness.runs.result import Result, read_result
from harness.runs.trial import read_trial
from harness.search.status import read_status
from tests.support.command import run_harness
from tests.support.corpus import TinyText, tiny_text
from tests.support.slurm.cluster import Cluster, serve, wait_for

CHECKPOINT_EVERY_STEPS = 20
BATCH_TOKENS = 4 * 32
SLURM = ["launcher=slurm_cpu", "launcher.cpus_per_task=1", "launcher.memory=500M", "launcher.time='01:00:00'"]
PATIENCE_SECONDS = 900.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--steps", type=int, default=400, help="a trial")
    parser.add_argument("--preemptions", type=int, default=3)
    arguments = parser.parse_args()
    require(shutil.which("slurmctld") is not None, "Slurm: the packages that .ci/run installs")
    clusters = serve()
    cluster = next(clusters)
    try:
        with tempfile.TemporaryDirectory() as folder:
            os.environ.update(cluster.environment, HARNESS_RUNS=f"{folder}/runs", HARNESS_CACHE=f"{folder}/cache")
            bench = Bench(cluster, Path(folder))
            bench.overhead(arguments.trials, arguments.steps)
            bench.interruptions("preempted", bench.preempt, arguments.preemptions)
            bench.interruptions("node failed", bench.fail_node, arguments.preemptions)
    finally:
        clusters.close()


class Bench:
    """Studies on one cluster, under one folder."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder
        self.text: TinyText = tiny_text(folder)

    def sweep(self, name: str, *, trials: int, steps: int) -> Path:
        base = [*self.text.overrides, f"trainer.max_steps={steps}", f"trainer.checkpoint_every_steps={CHECKPOINT_EVERY_STEPS}"]
        document = {
            "base": base,
            "objective": {"metric": "val/domain/loss"},
            "space": {"optim.lr": {"low": 1e-4, "high": 1e-1, "log": True}},
            "search": "random",
            "budget": {"trials": trials},
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps(document))
        return path

    def overhead(self, trials: int, steps: int) -> None:
        """Seconds from the command to the end of the last trial."""
        # Text is tokenized once, before either.
        self.run_sweep("warm", trials=1, steps=1, overrides=[])
        local = self.run_sweep("local", trials=trials, steps=steps, overrides=[])
        on_slurm = self.run_sweep("slurm", trials=trials, steps=steps, overrides=SLURM)
        print(f"4 workers, {trials} trials of {steps} steps: {local:.1f} s local, {on_slurm:.1f} s on Slurm, ratio {on_slurm / local:.2f}")

    def run_sweep(self, name: str, *, trials: int, steps: int, overrides: list[str]) -> float:
        path = self.sweep(name, trials=trials, steps=steps)
        began = time.time()
        done = run_harness("sweep", path, *overrides, "--workers", "4", cwd=self.folder, timeout_seconds=PATIENCE_SECONDS)
        assert done.rc == 0, done
        directory = StudyDirectory(self.folder / "runs" / name)
        wait_for(lambda: read_status(directory).is_finished, "the study to end", seconds=PATIENCE_SECONDS)
        lost = trials - read_status(directory).count().get("complete", 0)
        assert lost == 0, f"{lost} trials lost"
        ends = [trial.spans[-1][1] for run in directory.trials() if (trial := read_trial(run)) is not None]
        return max(ends) - began

    def interruptions(self, what: str, interrupt: Callable[[str], None], times: int) -> None:
        """Tokens that one trial trains again, and seconds until it goes on."""
        name = what.replace(" ", "-")
        path = self.sweep(name, trials=1, steps=100_000)
        done = run_harness("sweep", path, *SLURM, "--workers", "1", cwd=self.folder)
        assert done.rc == 0, done
        directory = StudyDirectory(self.folder / "runs" / name)
        run = directory.trial(0)

        def step() -> int:
            newest = run.metrics.newest()
            return newest["step"] if newest else 0

        def result() -> Result:
            return read_result(run)

        again, seconds = 0, 0.0
        for attempt in range(1, times + 1):
            start = result().step
            wait_for(lambda: result().attempts == attempt and step() > start + 2 * CHECKPOINT_EVERY_STEPS, "it to train", seconds=300)  # noqa: B023
            trial = read_trial(run)
            assert trial is not None
            interrupt(trial.claims[-1].place.node)
            began = time.monotonic()
            wait_for(lambda: result().attempts == attempt + 1 and result().state == "running", "it to go on", seconds=300)  # noqa: B023
            seconds += time.monotonic() - began
            reached = max(row["step"] for row in run.metrics.rows())
            again += max(0, reached - result().step)
        assert result().failures == 0, "none of it counts as a failure of the trial"
        run_harness("stop", name, cwd=self.folder)
        tokens = again * BATCH_TOKENS / times
        print(f"{what} {times} times: {tokens:.0f} tokens trained again each time, {seconds / times:.1f} s until it goes on")

    def preempt(self, node: str) -> None:
        self.cluster.submit("-p", "high", "-w", node, "--exclusive", "--output=/dev/null", "--wrap", "sleep 1")

    def fail_node(self, node: str) -> None:
        self.cluster.fail(node)
        time.sleep(1.0)
        self.cluster.command("scontrol", "update", f"nodename={node}", "state=resume", check=False)


if __name__ == "__main__":
    main()
