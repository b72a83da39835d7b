"""Child processes that do not outlive their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait


def die_with_parent() -> None:
    """Kill this process as soon as the one that started it through multiprocessing has ended.

    Without this, the children of a killed process would train on.
    """
    threading.Thread(target=_wait_for_parent, name="die-with-parent", daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
