"""Studies whose workers are jobs of a real cluster."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.config.launcher_schema import LauncherConfig
from harness.launch.slurm import submission
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.result import Result, read_result
from harness.runs.trial import Trial, read_trial
from harness.search.load_sweep import load_sweep
from harness.search.open_study import open_study
from harness.work.cluster import trainer_of
from tests.support.corpus import TinyText
from tests.support.slurm.cluster import Cluster, wait_for

LONG = 200_000
"""Steps of a run that no test waits for: a quick machine, too, is at it for longer than a job of two minutes lasts."""
PATIENCE_SECONDS = 240.0
"""A worker of several ranks starts within seconds, but not on a machine that does much else."""
EVERY = 20
"""Steps between two checkpoints."""


class OnSlurm:
    """One study and its jobs."""

    def __init__(self, cluster: Cluster, directory: StudyDirectory) -> None:
        self.cluster = cluster
        self.directory = directory

    def submit(self, workers: int, **profile: Any) -> int:
        """An array of workers; its job id. profile: of the launcher."""
        launcher = LauncherConfig(name="slurm", **{"cpus_per_task": 1, "gpus_per_node": 0, "memory": "500M", "time": "30", **profile})
        job = submission.worker_job(self.directory, launcher, trainer_of(self.directory), count=workers)
        return submission.submit(self.directory, job, launcher, purpose="workers").job

    # What is to be seen of it.

    def run(self, number: int = 0) -> RunDirectory:
        return self.directory.trial(number)

    def result(self, number: int = 0) -> Result:
        return read_result(self.run(number))

    def trial(self, number: int = 0) -> Trial:
        trial = read_trial(self.run(number))
        assert trial is not None
        return trial

    def step(self, number: int = 0) -> int:
        newest = self.run(number).metrics.newest()
        return newest["step"] if newest else 0

    def node(self, number: int = 0) -> str:
        """Where the trial was taken up last."""
        return self.trial(number).claims[-1].place.node

    def wait(self, condition: Callable[[], object], what: str, *, seconds: float = PATIENCE_SECONDS) -> None:
        try:
            wait_for(condition, what, seconds=seconds)
        except AssertionError as error:
            queue = self.cluster.command("squeue", "-r", "-t", "all", "-o", "%i %T %r %N %M")
            raise AssertionError(f"{error}\n{queue}{self.said()}") from None

    def wait_for_step(self, step: int, number: int = 0) -> None:
        self.wait(lambda: self.step(number) >= step, f"step {step} of trial {number}")

    def wait_for_attempt(self, attempt: int, number: int = 0) -> None:
        """Until this attempt has trained."""
        self.wait(lambda: (found := self.result(number)).attempts == attempt and found.state == "running", f"attempt {attempt}")
        self.wait_for_step(self.result(number).step + 2, number)

    def said(self) -> str:
        """What the workers and the attempts have said."""
        logs = [*sorted(self.directory.workers.glob("slurm/*.log")), *(run.log for run in self.directory.trials() if run.log.exists())]
        return "".join(f"\n--- {log.name}\n{log.read_text()[-2000:]}" for log in logs)

    def processes(self) -> list[int]:
        """All processes of this study that live on this machine, whoever started them."""
        return processes_of(self.directory.path)

    def worker_pids(self) -> list[int]:
        return [pid for pid in self.processes() if b"\0worker\0" in _read(pid, "cmdline") and b"srun" not in _read(pid, "cmdline")[:8]]


def processes_of(path: Path) -> list[int]:
    """Processes that work on what lies under a directory: by their arguments, or by the runs directory in their environment."""
    # Daemons of Slurm that a test has started again have its environment.
    daemons = (b"slurmctld", b"slurmd", b"slurmdbd", b"munged", b"mariadbd")
    needle = str(path.resolve()).encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            pid = int(entry.name)
            if _read(pid, "comm").strip() in daemons or _is_warm(pid):
                continue
            if needle in _read(pid, "cmdline") or b"HARNESS_RUNS=" + needle.rpartition(b"/")[0] in _read(pid, "environ"):
                found.append(pid)
    return sorted(found)


def _is_warm(pid: int) -> bool:
    """Whether it is the process that commands of the tests are forks of, which has the environment of the test that started it."""
    return b"\0tests.support.warm\0" in _read(pid, "cmdline") and f"PPid:\t{os.getpid()}\n".encode() in _read(pid, "status")


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def attempts_of(study: OnSlurm) -> list[int]:
    """The processes that train, of all ranks: the children of fork servers."""
    servers = [pid for pid in study.processes() if b"forkserver" in _read(pid, "cmdline")]
    return [int(child) for pid in servers for child in _read(pid, f"task/{pid}/children").split()]


def kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


NewStudy = Callable[..., OnSlurm]


@pytest.fixture
def new_study(slurm: Cluster, tiny_text: TinyText, tmp_path: Path) -> Iterator[NewStudy]:
    """Makes a study of random search over the rate; keywords are sections of the sweep file."""
    made: list[OnSlurm] = []

    def make(name: str = "study", *, base: tuple[str, ...] = (), **sections: Any) -> OnSlurm:
        document = {
            "base": [*tiny_text.overrides, f"trainer.max_steps={LONG}", f"trainer.checkpoint_every_steps={EVERY}", *base],
            "objective": {"metric": "val/domain/loss"},
            "space": {"optim.lr": {"low": 1e-4, "high": 1e-1, "log": True}},
            "search": "random",
            "budget": {"trials": 1},
            **sections,
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        made.append(OnSlurm(slurm, open_study(load_sweep(str(path), []))))
        return made[-1]

    yield make
    slurm.start()
    slurm.end_jobs()
