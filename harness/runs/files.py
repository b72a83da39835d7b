"""Writing so that a reader never sees half a file, and reading what may be torn."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import yaml


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


def write_json(path: Path, document: Any) -> None:
    """Write `document` as JSON. Raises ValueError for numbers that JSON does not have (NaN, infinity)."""
    write_text(path, json.dumps(document, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`, or None where there is no such file."""
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return document


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file that the harness wrote. Raises OSError and yaml.YAMLError."""
    # The C loader reads a frozen sweep in 2 ms instead of 20.
    document: dict[str, Any] = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
    return document


def write_yaml(path: Path, document: Any, *, header: str = "") -> None:
    """Write `document` as YAML, keys in the order given, below `header` (comment lines)."""
    # The C dumper writes a configuration in 2 ms instead of 15.
    text: str = yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=120)
    write_text(path, header + text)


def append_json_line(path: Path, row: dict[str, Any]) -> None:
    """Append one row in a single write, so that concurrent readers see whole lines or, after a crash, a torn last one.

    Raises ValueError for numbers that JSON does not have (NaN, infinity).
    """
    with path.open("ab") as stream:
        stream.write(json.dumps(row, allow_nan=False).encode() + b"\n")


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole rows of a jsonl file that may have been torn by a crash (a torn line is skipped: its writer died)."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    for line in content.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row
