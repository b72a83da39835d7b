"""A PostgreSQL server for a test run: a cluster of its own, on the loopback, gone with the tests."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -int(path.parent.name)), Path("/usr/local/bin")]
"""Debian keeps them off the search path."""
CLUSTER = ["--username=harness", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
OPTIONS = ("fsync=off", "shared_buffers=16MB", "max_connections=400", "listen_addresses=127.0.0.1", "unix_socket_directories=")
"""Fast, and with room for connections of tests that Python has not closed yet."""
OF_OPTIONS = [word for option in OPTIONS for word in ("-c", option)]


class Server:
    """A server that can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._user = _unprivileged()
        if self._user:
            shutil.chown(folder, self._user["user"], self._user["group"])
        subprocess.run([_program("initdb"), f"--pgdata={folder / 'data'}", *CLUSTER], check=True, stdout=subprocess.DEVNULL, **self._user)
        # Only now: a port that is free for long is taken by whoever asks for any.
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.address = f"postgresql://harness@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        with (self._folder.parent / f"{self._folder.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [_program("postgres"), "-D", self._folder / "data", "-p", str(self.port), *OF_OPTIONS], stdout=log, stderr=log, **self._user
            )
        deadline = time.monotonic() + 30
        while not self._answers():
            assert time.monotonic() < deadline, Path(log.name).read_text()
            assert self._process.poll() is None, Path(log.name).read_text()
            time.sleep(0.05)

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.address, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: end all sessions and leave; SIGQUIT: crash."""
        if self._process.poll() is None:
            self._process.send_signal(how)
        self._process.wait(timeout=30)


def _program(name: str) -> str:
    return str(next(path / name for path in PROGRAMS if (path / name).exists()))


def _unprivileged() -> dict[str, Any]:
    """For root: the server refuses to be run by it."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    entry = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [], "cwd": "/"}


@contextlib.contextmanager
def server() -> Iterator[Server]:
    if not any((path / "initdb").exists() for path in PROGRAMS):
        message = "no PostgreSQL server here (apt-get install postgresql)"
        # Under CI they must run; elsewhere the journal's half of the same tests says most.
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    # Not in pytest's folders: those are root's alone, and the server is another user.
    folder = Path(tempfile.mkdtemp(prefix="harness-postgresql-"))
    try:
        one = Server(folder)
        one.start()
        try:
            yield one
        finally:
            one.stop()
    finally:
        shutil.rmtree(folder)
        folder.with_name(f"{folder.name}.log").unlink(missing_ok=True)


def serve() -> Iterator[str]:
    """The address of a server that lives until the generator is closed."""
    with server() as one:
        yield one.address
