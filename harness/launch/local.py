"""Workers as processes of this machine."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from harness.runs.directory import StudyDirectory
from harness.runs.exit_codes import BAD_INPUT, DONE, MACHINE_FAULT, STOPPED

MAX_QUICK_DEATHS_PER_WORKER = 3
"""When workers keep dying, something is wrong with the machine, not with the trials."""
QUICK_DEATH_SECONDS = 30.0


class LocalWorkers:
    """The workers that one `harness sweep` started."""

    def __init__(self, study: StudyDirectory, count: int) -> None:
        self.study = study
        self._quick_deaths_left = MAX_QUICK_DEATHS_PER_WORKER * count
        study.workers.mkdir(parents=True, exist_ok=True)
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self._started: dict[subprocess.Popen[bytes], float] = {}
        for _ in range(count):
            self._start()

    def _start(self) -> None:
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C reaches the command that the user sees, which then asks its workers to stop.
            process = subprocess.Popen(
                [sys.executable, "-m", "harness", "worker", str(self.study.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started[process] = time.monotonic()

    @property
    def log(self) -> Path:
        """The output of the workers."""
        return self.study.workers / "log.txt"

    def last_words(self, lines: int = 5) -> list[str]:
        """The end of these workers' output."""
        try:
            with self.log.open("rb") as stream:
                stream.seek(self._log_start)
                said = stream.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return []
        return [line for line in said if line.strip()][-lines:]

    def tend(self, *, replace: bool) -> int:
        """Replace workers that died; how many run now."""
        for process in [process for process in self._started if process.poll() is not None]:
            lived_seconds = time.monotonic() - self._started.pop(process)
            # Bad input and a full disk would meet the next worker, too; and whom somebody has asked to leave is not called back.
            if not replace or process.returncode in (DONE, BAD_INPUT, STOPPED, MACHINE_FAULT):
                continue
            if lived_seconds < QUICK_DEATH_SECONDS:
                self._quick_deaths_left -= 1
            if self._quick_deaths_left >= 0:
                self._start()
        return len(self._started)

    def ask_to_stop(self) -> None:
        """Ask each to save a checkpoint at the end of its step and leave."""
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill them: trials go on from their last checkpoints when the study is started again."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
        for process in self._started:
            process.wait()
