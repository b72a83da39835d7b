"""Attempts as child processes, forked from a warm server: each starts in a fraction of a second, and a crash ends it alone."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from multiprocessing import resource_tracker, util
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from harness.runs.processes import die_with_parent
from harness.runs.signals import stop_signals_blocked, unblock_stop_signals

PAUSES = (0.1, 0.5, 2.0, 5.0)
"""Seconds before the next try when the server died: on a busy machine its sockets close well before its parent learns of its end, and
until then no new one is started."""
LONGEST_TMPDIR = 75
"""A socket's path has at most 107 bytes, of which multiprocessing takes up to 32 for names of its own."""
log = logging.getLogger(__name__)

AttemptFunction = Callable[..., int]
"""Runs or resumes the run in a directory, in a process of its own, and returns the exit code. Its arguments: the directory, and
what a worker with several ranks adds."""


class AttemptServer:
    """A process that has imported what training needs and forks a child for every attempt.

    The server holds no CUDA context and no threads, so that its children may use either.
    """

    def __init__(self, attempt: AttemptFunction, preload: list[str]) -> None:
        self._attempt = attempt
        _shorten_socket_paths()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(preload)

    def start(self, run: Path, *more: Any) -> BaseProcess:
        """Start an attempt on the run in this directory. more: further arguments; sockets may be among them.

        Raises EOFError or OSError when no server lives long enough.
        """
        for times, pause in enumerate(PAUSES, start=1):
            try:
                return self._start(run, *more)
            except (EOFError, ConnectionError) as error:
                # It was killed just now, and a child with it. multiprocessing starts a new one.
                log.warning("the server of attempts died while it was asked for one (%d times): %r", times, error)
                time.sleep(pause)
        return self._start(run, *more)

    def _start(self, run: Path, *more: Any) -> BaseProcess:
        process = self._context.Process(target=_child, args=(self._attempt, str(run), *more))
        # The fork server and multiprocessing's resource tracker, started by the first attempt, hold stop signals back for good. The
        # tracker's start lets SIGTERM through again, so it comes first.
        with stop_signals_blocked():
            resource_tracker.ensure_running()
        with stop_signals_blocked():
            process.start()
        return process


def _shorten_socket_paths() -> None:
    """Where TMPDIR, as that of a job, is too long for the paths of sockets that multiprocessing makes in it, give it another place."""
    if len(os.fsencode(tempfile.gettempdir())) <= LONGEST_TMPDIR:
        return
    directory = tempfile.mkdtemp(prefix="harness-", dir="/tmp")
    util.Finalize(None, shutil.rmtree, args=(directory, True), exitpriority=-100)
    # As multiprocessing.util.get_temp_dir notes its own; the attempts inherit it.
    multiprocessing.current_process()._config["tempdir"] = directory  # type: ignore[attr-defined]


def _child(attempt: AttemptFunction, run: str, *more: Any) -> None:
    die_with_parent()
    unblock_stop_signals()
    raise SystemExit(attempt(run, *more))
