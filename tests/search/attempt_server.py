"""What befalls the server that attempts are forked from, in a process of its own.

multiprocessing has one such server a process, and that of a test run may have been started by anybody.

    python -m tests.search.attempt_server signalled|killed|dying DIRECTORY [SIGNAL]
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from harness.runs.exit_codes import STOPPED
from harness.runs.signals import STOP_SIGNALS
from harness.search.attempts import AttemptServer


def leaves_when_asked(directory: str) -> int:
    asked: list[int] = []
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, frame: asked.append(number))
    Path(directory, "listens").touch()
    while not asked:
        time.sleep(0.01)
    return STOPPED


def started(directory: Path) -> tuple[AttemptServer, BaseProcess]:
    """A server, and an attempt that waits to be asked to leave."""
    server = AttemptServer(leaves_when_asked, [])
    process = server.start(directory)
    _wait_for(directory)
    return server, process


def signalled(directory: Path, number: int) -> None:
    """All that serves attempts gets a signal, then the attempt itself."""
    _, process = started(directory)
    servants = _servants()
    assert len(servants) == 2, "the fork server and the resource tracker"
    for pid in servants:
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, number)
    time.sleep(0.2)
    assert process.is_alive()
    _ask_to_leave(process, number)


def killed(directory: Path) -> None:
    """The server is killed while it is asked for an attempt."""
    server, process = started(directory)
    _ask_to_leave(process, signal.SIGTERM)
    (directory / "listens").unlink()
    [pid] = [pid for pid in _servants() if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
    process = server.start(directory)
    _wait_for(directory)
    _ask_to_leave(process, signal.SIGTERM)


def dying(directory: Path) -> None:
    """The server is killed, and lies there for a second as one that still runs: it refuses whoever asks, and cannot be waited for yet.

    (Of a process that dies on a busy machine, its sockets are closed before its parent learns of it.)
    """
    server, process = started(directory)
    _ask_to_leave(process, signal.SIGTERM)
    (directory / "listens").unlink()
    [pid] = [pid for pid in _servants() if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    dead, waitpid = time.monotonic() + 1, os.waitpid
    os.waitpid = lambda of, options: (0, 0) if of == pid and time.monotonic() < dead else waitpid(of, options)
    os.kill(pid, signal.SIGKILL)
    _wait_until(lambda: b"State:\tZ" in Path(f"/proc/{pid}/status").read_bytes(), "the server to be killed")
    process = server.start(directory)
    _wait_for(directory)
    _ask_to_leave(process, signal.SIGTERM)


def _servants() -> list[int]:
    children = [int(pid) for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()]
    return [pid for pid in children if b"multiprocessing" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _wait_for(directory: Path) -> None:
    _wait_until((directory / "listens").exists, "an attempt to start")


def _wait_until(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.01)


def _ask_to_leave(process: BaseProcess, number: int) -> None:
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(30)
    assert process.exitcode == STOPPED, process.exitcode


if __name__ == "__main__":
    # By its name, under which the server finds it, too.
    from tests.search import attempt_server

    what, folder, *numbers = sys.argv[1:]
    getattr(attempt_server, what)(Path(folder), *map(int, numbers))
