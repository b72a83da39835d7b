"""Content hashes of files, cached until a file changes: hashing terabytes at every start would take longer than training."""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from pathlib import Path

from harness.config.documents import DamagedError, read_text
from harness.config.errors import InputError
from harness.config.writable import check_writable
from harness.data.cache_entry import CACHE_KEY
from harness.runs.files import write_text

SHA256 = re.compile("[0-9a-f]{64}")


def content_hash(file: Path, memory: Path, *, key: str) -> str:
    """SHA-256 of a file's content, hex.

    Cached in the directory `memory` under the file's path, size, modification time and inode: a file that changed has another entry.
    Raises InputError, naming the configuration `key` of the source, for a file that cannot be read; and where `memory` cannot be written.
    """
    status = file.stat()
    identity = f"{file.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}"
    entry = memory / hashlib.sha256(identity.encode()).hexdigest()
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, DamagedError):
        # A crash of the machine may leave an empty one: then all such files would be the same.
        if SHA256.fullmatch(known := read_text(entry)):
            return known
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{key}: {file}: cannot be read ({error.strerror})") from error
    # A file written just now may be written again within one tick of the file system's clock, and look the same.
    if time.time() - status.st_mtime > 1:
        check_writable(memory, CACHE_KEY)
        write_text(entry, digest)
    return digest
