"""Asking what may never answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def answer_within(seconds: float, ask: Callable[[], T]) -> T:
    """What `ask` returns or raises; TimeoutError where it has done neither after so many seconds.

    It goes on in a thread that keeps no process alive: to look up a host without a network may take half a minute, whatever time limits a
    library is given.
    """
    outcome: dict[str, Any] = {}

    def asking() -> None:
        try:
            outcome["answer"] = ask()
        except BaseException as error:  # noqa: BLE001 - for the caller
            outcome["error"] = error

    thread = threading.Thread(target=asking, daemon=True)
    thread.start()
    thread.join(seconds)
    if "error" in outcome:
        raise outcome["error"]
    if "answer" not in outcome:
        raise TimeoutError(f"no answer within {seconds:g} seconds")
    answer: T = outcome["answer"]
    return answer
