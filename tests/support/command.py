"""The command, in a process of its own or in this one."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from unittest import mock

import typer.main

from tests.support import warm
from tests.support.warm import HARNESS

# A wide terminal: Rich would else break lines in the middle of what a test looks for.
SURROUNDINGS = {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1"}

VERBS = functools.cache(typer.main.get_command)
"""Typer makes the commands of all verbs anew for every call, which takes longer than most calls that end early."""


@dataclass(frozen=True)
class Done:
    """What came of a command."""

    rc: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        return f"exit code {self.rc}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


def run_harness(
    *arguments: str | Path, cwd: Path, env: dict[str, str] | None = None, timeout_seconds: float = 240.0, cold: bool = False
) -> Done:
    """Run `harness ARGUMENTS` in `cwd`, with `env` on top of this process's environment.

    cold: as a new interpreter, which imports all that it needs, rather than as a fork of a process that has done so (see warm.py).
    """
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = start_harness(*arguments, cwd=cwd, env={**SURROUNDINGS, **(env or {})}, stdout=stdout, stderr=stderr, cold=cold)
        try:
            rc = process.wait(timeout=timeout_seconds)
        finally:
            process.kill()
        said = []
        for stream in (stdout, stderr):
            stream.seek(0)
            said.append(stream.read().decode())
    return Done(rc, *said)


def start_harness(
    *arguments: str | Path, stdout: IO[Any], stderr: IO[Any], cwd: Path | None = None, env: dict[str, str] | None = None, cold: bool = False
) -> warm.Process | subprocess.Popen[bytes]:
    """Start `harness ARGUMENTS` in a process group of its own, with `env` on top of this process's environment; one thread each."""
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    directory = cwd or Path.cwd()
    if not cold:
        return warm.shared().start("harness", arguments, cwd=directory, env=surroundings, stdout=stdout, stderr=stderr)
    return subprocess.Popen(
        [HARNESS, *map(str, arguments)],
        cwd=directory,
        env=surroundings,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        process_group=0,
    )


def call_harness(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None) -> Done:
    """The same without a process of its own, which would take seconds to import what this one has: for what ends before it trains."""
    from harness.cli.main import main
    from harness.runs.signals import STOP_SIGNALS

    stdout, stderr, rc = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.chdir(cwd),
        mock.patch.dict(os.environ, {**SURROUNDINGS, **(env or {})}),
        mock.patch.object(sys, "argv", [str(HARNESS), *map(str, arguments)]),
        mock.patch.object(typer.main, "get_command", VERBS),
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
