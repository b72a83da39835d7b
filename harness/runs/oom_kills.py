"""Whether the kernel killed processes of ours for memory: cgroups count that, and a job of Slurm or a container has one of its own.

A process that is killed so says nothing; without this it looks like any other SIGKILL.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

DYING_SECONDS = 5.0
"""How long a process that the kernel has killed may take to be gone: what it held is given back first."""
MOUNT = Path("/sys/fs/cgroup")


def oom_kills(process: Path = Path("/proc/self"), mount: Path = MOUNT) -> int | None:
    """How many processes of this one's cgroup the kernel has killed because it was at its limit, or the machine at its own; None where
    that is not counted (no cgroups of version 2)."""
    try:
        ours = next(line for line in (process / "cgroup").read_text("utf-8").splitlines() if line.startswith("0::"))
        group = mount / ours.removeprefix("0::").strip("/")
        events = group / "memory.events.local"  # without groups below; Linux has it from 5.2 on
        lines = (events if events.exists() else group / "memory.events").read_text("utf-8").splitlines()
    except (OSError, StopIteration):
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


class OutOfMemoryKills:
    """Whether a process that was killed just now was killed for memory.

    The kernel counts for a cgroup, whose other processes may be another worker's. So only what was counted at most DYING_SECONDS before
    the end is taken for this process's; two deaths that close together cannot be told apart.
    """

    def __init__(self) -> None:
        self._looked_at = time.monotonic()
        self._count = oom_kills()
        self._rose_at = -math.inf

    def look(self) -> None:
        """To be called again and again while the process lives."""
        count, now = oom_kills(), time.monotonic()
        if count is not None and self._count is not None and count > self._count:
            self._rose_at = self._looked_at  # at the earliest
        self._count, self._looked_at = count, now

    def was_just_now(self) -> bool:
        """To be called when the process is gone; when in doubt, it was not."""
        self.look()
        return time.monotonic() - self._rose_at <= DYING_SECONDS
