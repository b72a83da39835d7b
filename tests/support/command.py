"""The command, in a process of its own or in this one."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

HARNESS = Path(sys.executable).with_name("harness")
# A wide terminal: Rich would else break lines in the middle of what a test looks for.
SURROUNDINGS = {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1"}


@dataclass(frozen=True)
class Done:
    """What came of a command."""

    rc: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        return f"exit code {self.rc}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


def run_harness(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None, timeout_seconds: float = 240.0) -> Done:
    """Run `harness ARGUMENTS` in `cwd`, with `env` on top of this process's environment."""
    done = subprocess.run(
        [HARNESS, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **SURROUNDINGS, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def call_harness(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None) -> Done:
    """The same without a process of its own, which would take seconds to import what this one has: for what ends before it trains."""
    from harness.cli.main import main
    from harness.runs.signals import STOP_SIGNALS

    stdout, stderr, rc = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.chdir(cwd),
        mock.patch.dict(os.environ, {**SURROUNDINGS, **(env or {})}),
        mock.patch.object(sys, "argv", [str(HARNESS), *map(str, arguments)]),
        # As the console script has it: Click takes the program's name, too, from how this process was started.
        mock.patch.object(sys.modules["__main__"], "__package__", None),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, *STOP_SIGNALS)}
        try:
            main()
        except SystemExit as end:
            rc = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            # A process that ends need not give them back, and so does not.
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return Done(rc, stdout.getvalue(), stderr.getvalue())
