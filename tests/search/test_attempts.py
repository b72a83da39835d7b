"""The server that attempts are forked from: when Slurm signals every process of a step, and when it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.runs.signals import STOP_SIGNALS

pytestmark = pytest.mark.slow


def befalls(what: str, directory: Path, *more: int, **environment: str) -> None:
    command = [sys.executable, "-m", "tests.search.attempt_server", what, str(directory), *map(str, more)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_whatever_serves_attempts_outlives_a_signal_to_all(tmp_path: Path, number: signal.Signals) -> None:
    befalls("signalled", tmp_path, number)


def test_a_server_that_takes_a_while_to_die_is_replaced_all_the_same(tmp_path: Path) -> None:
    befalls("dying", tmp_path)


def test_a_server_that_is_killed_while_it_is_asked_is_replaced(tmp_path: Path) -> None:
    befalls("killed", tmp_path)


def test_a_long_tmpdir_is_no_place_for_sockets(tmp_path: Path) -> None:
    """As batch jobs have: a socket's path may have 107 characters."""
    long = tmp_path / ("x" * 60) / ("y" * 60)
    long.mkdir(parents=True)
    befalls("killed", tmp_path, TMPDIR=str(long))
