from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.fake_wandb import FakeWandb


def _processes_with(mark: str) -> list[str]:
    """Command lines of the living processes whose environment holds `mark` (none where there is no /proc)."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def wait_for_the_end_of_all_with(mark: str) -> None:
    deadline = time.monotonic() + 30  # a server that is to fork others takes seconds to end on a busy machine
    while (left := _processes_with(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


@pytest.fixture(autouse=True)
def mark(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """No W&B variable of whoever runs the tests is seen, and no process of the client outlives its test."""
    for name in ("MODE", "PROJECT", "ENTITY", "BASE_URL", "API_KEY", "DIR", "SERVICE"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    mark = uuid.uuid4().hex
    yield mark
    wait_for_the_end_of_all_with(mark)


@pytest.fixture
def environment(mark: str, tmp_path: Path) -> dict[str, str]:
    """For every process that uses the client: nothing from this machine's home directory, no error reports to the outside."""
    return {
        "HARNESS_TEST": mark,
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_CONFIG_DIR": str(tmp_path / "wandb-config"),
        "WANDB_CACHE_DIR": str(tmp_path / "wandb-cache"),
        "NETRC": str(tmp_path / "netrc"),
    }


@pytest.fixture
def backend() -> Iterator[FakeWandb]:
    with FakeWandb() as backend:
        yield backend
        assert not backend.schema.unknown, "the client asked for fields that the backend does not have"


@pytest.fixture
def online(backend: FakeWandb, environment: dict[str, str]) -> dict[str, str]:
    return {**environment, **backend.environment, "WANDB_MODE": "online"}


@pytest.fixture
def sync(backend: FakeWandb, environment: dict[str, str]) -> Callable[[Path], str]:
    """`wandb sync` of one offline run's directory; returns what it says."""

    def run(path: Path) -> str:
        command = [sys.executable, "-m", "wandb", "sync", str(path)]
        process = subprocess.run(
            command,
            cwd=path.parent,  # it writes what it says into the working directory's wandb/
            env={"PATH": "/usr/bin:/bin", "HOME": environment["WANDB_CONFIG_DIR"], **environment, **backend.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return process.stdout + process.stderr

    return run
