"""Workers as processes of this machine."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from harness.runs.directory import StudyDirectory

MAX_REPLACEMENTS_PER_WORKER = 3
"""A worker that keeps dying is not the trials' fault: something is wrong with the machine."""


class LocalWorkers:
    """The workers that one `harness sweep` started."""

    def __init__(self, study: StudyDirectory, count: int) -> None:
        self.study = study
        self._replacements = MAX_REPLACEMENTS_PER_WORKER * count
        self._processes = [self._start() for _ in range(count)]

    def _start(self) -> subprocess.Popen[bytes]:
        self.study.workers.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C reaches the command that the user sees, which then asks its workers to stop.
            return subprocess.Popen(
                [sys.executable, "-m", "harness", "worker", str(self.study.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> Path:
        """What the workers say."""
        return self.study.workers / "log.txt"

    def tend(self, *, replace: bool) -> int:
        """Replace workers that died rather than ended; how many are there now."""
        ended = [process for process in self._processes if process.poll() is not None]
        self._processes = [process for process in self._processes if process.poll() is None]
        for process in ended:
            if replace and process.returncode != 0 and self._replacements > 0:
                self._replacements -= 1
                self._processes.append(self._start())
        return len(self._processes)

    def ask_to_stop(self) -> None:
        """Ask each to save a checkpoint at the end of its step and leave."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """For the impatient: trials go on from their last checkpoints when the study is started again."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
        for process in self._processes:
            process.wait()
