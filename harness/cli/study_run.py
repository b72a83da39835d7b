"""The study's own W&B run: workers of a study that is tracked online keep it up to date."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from harness.config.terminal import say
from harness.runs.directory import StudyDirectory

PUBLISH_SECONDS = 60.0
"""Between two updates while a study is under way: each is a process of a few seconds."""
LAST_UPDATE_SECONDS = 120.0
"""How long a finished worker waits for its last update."""
MODEL_SECONDS = 900.0
"""The same where the best model is uploaded with it."""


def study_run(study: Annotated[Path, typer.Argument(help="The study's directory.")]) -> None:
    """Bring the study's own W&B run up to date. Workers start it; users need not."""
    from harness.tracking.study_overview import study_target
    from harness.tracking.wandb_run import TrackingError
    from harness.work.study_snapshot import publish_study

    directory = StudyDirectory(study)
    target = study_target(directory)
    if target is None or target.mode != "online":
        return
    try:
        # Of several workers that end at once, the last one must publish the final state.
        publish_study(directory, target, wait_seconds=LAST_UPDATE_SECONDS / 2)
    except TrackingError as error:
        say(str(error), err=True)
        raise typer.Exit(1) from None


class StudyRunUpdates:
    """Updates of the study's run from a worker, in processes of their own: the worker waits only for the last one."""

    def __init__(self, study: StudyDirectory) -> None:
        from harness.tracking.identity import tracking_of_study
        from harness.tracking.study_overview import is_tracked_online

        self._log_model = tracking_of_study(study).log_model
        self._study = study
        self._is_online = is_tracked_online(study)
        self._process: subprocess.Popen[bytes] | None = None
        self._newest = time.monotonic()

    def settled(self) -> None:
        """A trial has ended."""
        if time.monotonic() - self._newest > PUBLISH_SECONDS and (self._process is None or self._process.poll() is not None):
            self._start()

    def finish(self, *, wait: bool) -> None:
        """The worker ends. wait: whether there is time for the last update."""
        if not self._is_online:
            return
        if not wait:
            self._start()
            return
        deadline = time.monotonic() + (LAST_UPDATE_SECONDS if self._log_model == "none" else MODEL_SECONDS)
        if self._process is None or self._ended(deadline):
            self._start()
            self._ended(deadline)

    def _start(self) -> None:
        if self._is_online:
            self._newest = time.monotonic()
            # In a session of its own, so that signals to the worker do not reach it.
            command = [sys.executable, "-m", "harness", "study-run", str(self._study.path)]
            self._process = subprocess.Popen(command, stdout=sys.stderr, start_new_session=True)

    def _ended(self, deadline: float) -> bool:
        assert self._process is not None, "it was started"
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False
        return True
