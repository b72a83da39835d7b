"""An iterator whose items are made in another thread while the last ones are used: files are read and written while numbers are merged.

numpy and the system's calls let go of Python's lock, so that this takes a second core.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextvars import copy_context
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

Item = TypeVar("Item")
DEPTH = 2
"""Items that wait to be used, at most: what they hold stays in memory."""
LOOK_SECONDS = 0.1
"""How soon a thread that waits for room learns that nobody wants more."""


def ahead(items: Iterable[Item]) -> Generator[Item, None, None]:
    """The items in their order; an error while one is made is raised where it would have come. The thread ends with the iterator."""
    waiting: Queue[tuple[Item] | BaseException | None] = Queue(DEPTH)
    unwanted = Event()

    def put(one: tuple[Item] | BaseException | None) -> bool:
        while not unwanted.is_set():
            try:
                waiting.put(one, timeout=LOOK_SECONDS)
                return True
            except Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put((item,)):
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - raised again by whoever uses the items
            put(error)

    # With what holds here of numpy's warnings.
    maker = Thread(target=copy_context().run, args=(make,), daemon=True)
    maker.start()
    try:
        while (one := waiting.get()) is not None:
            if isinstance(one, BaseException):
                raise one
            yield one[0]
    finally:
        unwanted.set()
        maker.join()
