"""Files that a repository was cloned without: Git-LFS leaves a pointer of three lines in their place."""

from __future__ import annotations

from pathlib import Path

POINTER = b"version https://git-lfs.github.com/spec/"


def git_lfs_problem(file: Path) -> str | None:
    """What to do about a file that is a Git-LFS pointer; None where it is none, or cannot be read."""
    if not file.is_file():  # to open a pipe would wait for its writer
        return None
    try:
        with file.open("rb") as stream:
            is_pointer = stream.read(len(POINTER)) == POINTER
    except OSError:
        return None
    return f"{file}: a Git-LFS pointer, not the file itself; fetch it with `git lfs pull` in {file.parent}" if is_pointer else None
