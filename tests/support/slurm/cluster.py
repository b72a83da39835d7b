"""A real Slurm cluster for a test run: virtual nodes on this machine, each with fake GPUs; gone with the tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROGRAMS = ("sbatch", "slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd")
SEARCH_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
"""Debian keeps daemons off the search path of users."""
PORTS = range(30_000, 32_700, 50)
"""The first port of a cluster, of 50; a lock for each tells test runs at the same time which are taken."""
NODES, CPUS, GPUS = 4, 4, 2


class Cluster:
    """A running cluster. Its partitions: low (the default; preempted by requeueing, after 5 s of grace) and high."""

    def __init__(self, folder: Path) -> None:
        from harness.launch.slurm.commands import Slurm

        self.folder = folder
        self.config = folder / "etc" / "slurm.conf"
        self.slurm = Slurm(timeout_seconds=30)
        """The commands, as the harness calls them. They need `environment`, which the fixture `slurm` sets."""

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use the cluster."""
        return {"SLURM_CONF": str(self.config)}

    @property
    def nodes(self) -> list[str]:
        return [f"node{number}" for number in range(1, NODES + 1)]

    def command(self, *arguments: str, check: bool = True) -> str:
        """One of Slurm's commands, from outside any job; what it prints."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        done = subprocess.run(arguments, env={**environment, **self.environment}, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0 or not check, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def submit(self, *arguments: str) -> int:
        """`sbatch ARGUMENTS`; the job's id."""
        return int(self.command("sbatch", "--parsable", *arguments))

    def fail(self, node: str) -> None:
        """The node is gone, its jobs with it: requeued, or ended as NODE_FAIL."""
        self.command("scontrol", "update", f"nodename={node}", "state=down", "reason=test")

    def mend(self, node: str) -> None:
        self.command("scontrol", "update", f"nodename={node}", "state=resume")

    def mend_all(self) -> None:
        """Nodes that were failed, or that Slurm holds for suspect, take jobs again."""
        amiss = self.command("sinfo", "-h", "-N", "-t", "down,drain,fail,unknown,no_respond", "-o", "%N").split()
        for node in sorted(set(amiss)):
            self.mend(node)

    def stop_controller(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Until start(), no command is answered; jobs that run go on. SIGKILL: it crashes."""
        pid = int((self.folder / "run" / "slurmctld.pid").read_text())
        os.kill(pid, how)
        wait_for(lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid), "slurmctld to leave")

    def saved(self) -> float:
        """When slurmctld wrote its jobs down last, in seconds since the epoch; a crash loses what has changed since."""
        with contextlib.suppress(FileNotFoundError):  # for a moment, while one file takes the place of the other
            return (self.folder / "ctld" / "job_state").stat().st_mtime
        return 0.0

    def start(self) -> None:
        """Start what does not run: everything at first, later what a test has stopped."""
        _script("cluster-up", self.folder)

    def live_elements(self) -> list[str]:
        """The names of jobs and elements that wait or run."""
        return self.command("squeue", "-h", "-r", "-o", "%i").split()

    def end_jobs(self) -> None:
        """Cancel all and wait until they are gone."""

        def none_left() -> bool:
            # Again and again: one that was going back into the queue was not there to be cancelled. By the arrays' ids: after a crash,
            # slurmctld does not know those of elements.
            jobs = sorted(set(self.command("squeue", "-h", "-o", "%F").split()))
            if jobs:
                self.command("scancel", "--quiet", *jobs, check=False)
            return not jobs

        wait_for(none_left, "all jobs to end", seconds=120)

    def log(self, daemon: str = "slurmctld") -> str:
        """What slurmctld or slurmd.node1 has logged."""
        return (self.folder / "log" / f"{daemon}.log").read_text(errors="replace")


def wait_for(condition: Callable[[], object], what: str, *, seconds: float = 60.0) -> None:
    """Wait until the condition holds; what: for the message if it does not come to."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.1)


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def _script(name: str, *arguments: str | Path) -> None:
    # Its output goes to a file: daemons that inherit a pipe would keep it open.
    with tempfile.TemporaryFile("w+") as said:
        command = [str(HERE / name), *map(str, arguments)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, timeout=240, check=False)
        said.seek(0)
        assert done.returncode == 0, f"{name}: exit code {done.returncode}\n{said.read()}"


def serve() -> Generator[Cluster, None, None]:
    """A cluster that lives until the generator is closed."""
    from harness.runs.locks import hold

    missing = [program for program in PROGRAMS if shutil.which(program, path=SEARCH_PATH) is None]
    if missing:
        message = f"no Slurm here, {', '.join(missing)} missing (the Debian packages stand in .ci/run)"
        # Under CI they must run.
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    locks = Path(tempfile.gettempdir()) / "harness-slurm-ports"
    # Without a lock and yet in use: by a cluster whose test run was killed.
    ports, lock = next((first, lock) for first in PORTS if _are_free(first) and (lock := hold(locks / f"{first}.lock")))
    # Not in pytest's folders: paths of sockets are limited to 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="harness-slurm-"))
    folder.chmod(0o755)
    # However this process ends, killed as well, its end of the pipe closes, and the cluster is taken down.
    watch = subprocess.Popen(
        ["bash", "-c", 'cat >/dev/null; exec "$@"', "watch", HERE / "cluster-down", "--purge", folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert watch.stdin is not None
    try:
        _script("cluster-up", "--nodes", str(NODES), "--cpus", str(CPUS), "--gpus", str(GPUS), "--ports", str(ports), folder)
        yield Cluster(folder)
    finally:
        watch.stdin.close()
        code = watch.wait(timeout=180)
        lock.release()
        assert code == 0, f"cluster-down: exit code {code}; see {folder}"


def _are_free(first: int) -> bool:
    """Whether nothing listens on the ports of a cluster: one that was made by hand holds no lock."""
    for port in range(first, first + 11 + NODES):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return False
    return True
