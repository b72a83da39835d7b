"""Whether a directory can be written."""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness.config.errors import wrong_value


def check_writable(path: Path, what: str) -> None:
    """Raise InputError unless files can be made in the directory `path`, which is made if it is absent."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise wrong_value(what, path, f"cannot be written: {error.strerror}") from error
