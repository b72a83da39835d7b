"""Whether what a user names can be written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.config.errors import wrong_value


def check_writable(path: Path, what: str) -> None:
    """Raise InputError unless files can be made in the directory `path`, which is made if it is absent."""
    with _written(what, path):
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()


def check_output(option: str, path: Path) -> None:
    """Raise InputError for what cannot be a file that an option names: a directory, or a file in one that is not there or not writable."""
    if path.is_dir() or not path.parent.is_dir():
        raise wrong_value(option, path, "a directory; valid: a file to write" if path.is_dir() else f"no such directory {path.parent}")
    if not path.exists():
        with _written(option, path):
            tempfile.TemporaryFile(dir=path.parent).close()


@contextmanager
def _written(what: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise wrong_value(what, path, f"cannot be written: {error.strerror}") from error
