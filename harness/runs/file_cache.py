"""A cache of parsed files, which are read again only when they were replaced."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


class FileCache(Generic[T]):
    """Reads files that are replaced as a whole (see `harness.runs.files.write_json`). What it returns is shared: do not change it."""

    def __init__(self, parse: Callable[[Path], T]) -> None:
        """parse: reads a file; it is also called where there is none."""
        self._parse = parse
        self._known: dict[str, tuple[tuple[int, int, int] | None, T]] = {}

    def read(self, path: str) -> T:
        seen = _identity(path)
        known = self._known.get(path)
        if known is None or known[0] != seen:
            # A file that is replaced between the two calls is read once more the next time.
            known = self._known[path] = (seen, self._parse(Path(path)))
        return known[1]

    def forget(self, path: str) -> None:
        self._known.pop(path, None)


def _identity(path: str) -> tuple[int, int, int] | None:
    # Opened, and not only stat: on a network file system this asks the server.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return found.st_ino, found.st_mtime_ns, found.st_size
