"""The real command, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HARNESS = Path(sys.executable).with_name("harness")


@dataclass(frozen=True)
class Done:
    """What came of a command."""

    rc: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        return f"exit code {self.rc}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


def run_harness(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None, timeout_seconds: float = 120.0) -> Done:
    """Run `harness ARGUMENTS` in `cwd`, with `env` on top of this process's environment."""
    done = subprocess.run(
        [HARNESS, *map(str, arguments)],
        cwd=cwd,
        # A wide terminal: Rich would else break lines in the middle of what a test looks for.
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1", **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)
