"""Faults of the machine: a disk that is full, over its quota, read-only, broken, or closed to us. They are nobody's wrong value.

An attempt that meets one costs nothing, its trial waits, and its worker leaves; a command says so in one message.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

from harness.config.errors import causes

_FAULTS = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "has no room left in its quota",
    errno.EROFS: "is read-only",
    errno.EIO: "answers with errors",
    errno.ESTALE: "has lost the file: it was mounted anew",
    errno.EACCES: "does not let this user in",
}
_OF_RUST = re.compile(r"\(os error (\d+)\)")
"""How safetensors and tokenizers, which raise errors of their own, end what the system said."""


@dataclass(frozen=True)
class MachineFault:
    """What the machine could not do."""

    said: str
    """The path, where it is known, and the system's words."""
    disk: str
    """Which disk, and what is wrong with it."""

    def __str__(self) -> str:
        return f"{self.said}; {self.disk}"


def machine_fault(error: BaseException | None, near: Path | None = None) -> MachineFault | None:
    """The fault that an error came of; None where it came of something else. near: the place, where the error does not say it."""
    for one in causes(error):
        number = one.errno if isinstance(one, OSError) else _errno_of_rust(one)
        if number not in _FAULTS:
            continue
        named = getattr(one, "filename", None)
        path = Path(os.fsdecode(named)) if isinstance(named, str | bytes) else near
        said = os.strerror(number)
        if path is None:
            return MachineFault(said, f"a disk {_FAULTS[number]}")
        return MachineFault(f"{path}: {said}", f"the disk at {_mount_of(path)} {_FAULTS[number]}")
    return None


def _errno_of_rust(error: BaseException) -> int | None:
    found = _OF_RUST.search(str(error))
    return int(found[1]) if found else None


def _mount_of(path: Path) -> Path:
    path = path.absolute()
    return next((place for place in (path, *path.parents) if os.path.ismount(place)), Path("/"))
