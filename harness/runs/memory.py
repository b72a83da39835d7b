"""Whether the kernel killed processes of ours for memory: cgroups count that, and a job of Slurm or a container has one of its own.

A process that is killed so says nothing; without this it looks like any other SIGKILL.
"""

from __future__ import annotations

from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")


def oom_kills(process: Path = Path("/proc/self"), mount: Path = MOUNT) -> int | None:
    """How many processes of this one's cgroup the kernel has killed because it was at its limit, or the machine at its own; None where
    that is not counted (no cgroups of version 2)."""
    try:
        ours = next(line for line in (process / "cgroup").read_text().splitlines() if line.startswith("0::"))
        lines = (mount / ours.removeprefix("0::").strip("/") / "memory.events").read_text().splitlines()
    except (OSError, StopIteration):
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
