"""Writing so that a reader never sees half a file, and reading what may be torn."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import logging
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

import yaml

from harness.config import documents
from harness.config.documents import as_mapping

MOST_LINES_BYTES = 1 << 32
_SCRATCH = re.compile("[0-9a-f]{16}")
log = logging.getLogger(__name__)


@contextmanager
def at(path: Path) -> Iterator[None]:
    """Errors of the system that do not say where name `path`: a write, unlike open, does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write; it takes the place of `path` in one step when the block ends, and vanishes if the block raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not mkstemp, whose 0600 would hide results from colleagues: this one's mode is what the umask leaves of 0666.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            error.filename = str(path)  # a write that fails does not say where, and the temporary name says nothing to a reader
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextmanager
def writing_output(path: Path) -> Iterator[IO[bytes]]:
    """A file that a user names, to write. As `replacing`, but a link stays one, and a pipe or a device is written to, not replaced."""
    if path.exists() and (not path.is_file() or path.absolute().is_relative_to("/dev")):
        with at(path), path.open("wb") as stream:
            yield stream
    else:
        with replacing(Path(os.path.realpath(path))) as stream:
            yield stream


@contextmanager
def replacing_directory(path: Path) -> Iterator[Path]:
    """A new directory to write into; it becomes `path`, empty or not there, when the block ends, and vanishes if the block raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_directory(path.parent, f".{path.name}.") as scratch:
        temporary = scratch / path.name
        temporary.mkdir()
        yield temporary
        temporary.replace(path)


@contextmanager
def scratch_directory(parent: Path, prefix: str) -> Iterator[Path]:
    """A new directory below `parent`, for its owner alone, that is gone when the block ends.

    What killed processes left there under the same prefix is removed.
    """
    for left in parent.glob(f"{glob.escape(prefix)}*"):
        if _SCRATCH.fullmatch(left.name.removeprefix(prefix)) and (lock := _held_directory(left, fcntl.LOCK_EX)) is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(lock)
    directory = parent / f"{prefix}{secrets.token_hex(8)}"
    directory.mkdir(mode=0o700)
    lock = _held_directory(directory, fcntl.LOCK_SH)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _held_directory(directory: Path, kind: int) -> int | None:
    """A handle that holds the lock of a directory until it is closed; None where another holds it, or the file system has no locks."""
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None  # somebody else's, or gone
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def give_umask_rights(*paths: Path) -> None:
    """Let others read files and directories as the umask says: tempfile and safetensors make them for their owner alone."""
    for path in paths:
        mode = path.stat().st_mode
        everything = 0o777 if stat.S_ISDIR(mode) else 0o666
        # On a directory, setgid hands its group down: shared places rely on it.
        path.chmod((mode & stat.S_ISGID) | (everything & ~_umask_in(path.parent)))


def _umask_in(folder: Path) -> int:
    """The umask, as a file shows that is made with all rights: to ask for it would set it, for all threads of the process."""
    probe = folder / f".umask.{secrets.token_hex(8)}"
    handle = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o777)
    try:
        return 0o777 & ~os.fstat(handle).st_mode
    finally:
        os.close(handle)
        probe.unlink()


def write_text(path: Path, text: str) -> None:
    with replacing(path) as stream:
        stream.write(text.encode())


def write_output(path: Path, text: str) -> None:
    """Write a file that a user names, see `writing_output`."""
    with writing_output(path) as stream:
        stream.write(text.encode())


def write_json(path: Path, document: Any) -> None:
    """Write `document` as JSON. Raises ValueError for numbers that JSON does not have (NaN, infinity)."""
    write_text(path, json.dumps(document, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`, or None where there is no such file. Raises DamagedError."""
    try:
        return as_mapping(documents.read_json(path), path)
    except FileNotFoundError:
        return None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file that the harness wrote. Raises OSError and DamagedError."""
    return as_mapping(documents.read_yaml(path), path)


def write_yaml(path: Path, document: Any, *, header: str = "") -> None:
    """Write `document` as YAML, keys in the order given, below `header` (comment lines)."""
    # The C dumper writes a configuration in 2 ms instead of 15.
    text: str = yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=120)
    write_text(path, header + text)


def append_json_line(path: Path, row: dict[str, Any]) -> None:
    """Append one row in a single write, so that concurrent readers see whole lines or, after a crash, a torn last one.

    Raises ValueError for numbers that JSON does not have (NaN, infinity).
    """
    append_lines(path, [json.dumps(row, allow_nan=False)])


def append_lines(path: Path, lines: Sequence[str]) -> None:
    """Append lines in a single write. Where a crash tore the last one, its rest is ended, so that none is glued to it."""
    if lines:
        torn = _is_torn(path)
        with path.open("ab") as stream:
            stream.write(b"\n" * torn + "".join(f"{line}\n" for line in lines).encode())


def _is_torn(path: Path) -> bool:
    """Whether the last line of a file has no end."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) != b"\n"


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole rows of a jsonl file that may have been torn by a crash (a torn line is skipped: its writer died).

    Other lines that are no rows are skipped, too, which is said once. Raises DamagedError for what is no file.
    """
    try:
        content = documents.read_bytes(path, most_bytes=MOST_LINES_BYTES)
    except FileNotFoundError:
        return
    damaged = 0
    for line in content.splitlines(keepends=True):
        try:
            row = documents.parse_json(line)
        except (ValueError, RecursionError):
            # A torn line is the start of a row, to which the next attempt has added an end.
            damaged += bool(line.strip()) and not line.startswith(b'{"')
            continue
        if isinstance(row, dict):
            yield row
        else:
            damaged += 1
    if damaged:
        _say_damaged(path, damaged)


@cache
def _say_damaged(path: Path, lines: int) -> None:
    log.warning("%s: damaged: %d of its lines cannot be read, and are left out", path, lines)
