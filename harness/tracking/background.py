"""A daemon thread that runs tasks in order; callers neither wait nor see failures."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

logger = logging.getLogger("harness.tracking")

Resource = TypeVar("Resource")

FORCED_SECONDS = 2.0
"""How long a thread that was forced to end may take; after that it is left alone."""


class Background(Generic[Resource]):
    """Opens a resource in a thread of its own, passes it to one task after the other, and closes it.

    The first failure is logged once as a warning; from then on tasks are dropped.
    """

    def __init__(self, what: str, resource: Callable[[], AbstractContextManager[Resource]], *, capacity: int) -> None:
        self._what = what
        self._resource = resource
        self._capacity = capacity
        # The bound is kept by `offer`, not by the queue: the last tasks of a run must get in even when it is full.
        self._tasks: queue.Queue[Callable[[Resource], object] | None] = queue.Queue()
        self._accepting = True
        self.failure: str | None = None
        """Why it was given up; None while it works."""
        self._full = False
        self._thread = threading.Thread(target=self._work, name=what, daemon=True)
        self._thread.start()

    def offer(self, task: Callable[[Resource], object]) -> bool:
        """Queue a task; False if it is dropped since `capacity` tasks wait already, which is logged once."""
        if not self._accepting:
            return False
        if self._tasks.qsize() < self._capacity:
            self._tasks.put(task)
            return True
        if not self._full:
            self._full = True
            logger.warning("%s cannot keep up: it gets no further rows while %d are waiting", self._what, self._capacity)
        return False

    def ensure(self, task: Callable[[Resource], object]) -> None:
        """Queue a task whatever the queue's length: for the few tasks that are not rows."""
        if self._accepting:
            self._tasks.put(task)

    def close(self, timeout_seconds: float, *, force: Callable[[], None]) -> None:
        """Finish the queue and close the resource. After `timeout_seconds`, `force` must make the tasks fail."""
        self._accepting = False
        self._tasks.put(None)
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            self._give_up(f"It did not finish within {timeout_seconds:g} s.")
            force()
            self._thread.join(FORCED_SECONDS)

    def _work(self) -> None:
        try:
            with self._resource() as resource:
                while (task := self._tasks.get()) is not None:
                    task(resource)
        # wandb calls sys.exit() when its service ends badly.
        except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever it is, training goes on)
            self._give_up(f"{type(error).__name__}: {error}")

    def _give_up(self, reason: str) -> None:
        self._accepting = False
        if self.failure is None:
            self.failure = reason
            logger.warning("%s is off for the rest of this attempt; training goes on. %s", self._what, reason)
