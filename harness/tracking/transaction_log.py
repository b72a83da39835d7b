"""The log that W&B's client writes of a run, run-<id>.wandb: read up to where it is torn, and written anew.

Framing after LevelDB's log (https://github.com/google/leveldb/blob/main/doc/log_format.md): blocks of 32 KiB, in which every chunk has a
header of 7 bytes (crc32 of type and data, length of the data, type); a record is one chunk, or several over the blocks that it crosses.
W&B differs in a header of the file, 7 bytes that count towards the first block, and in a plain crc32. The records are protocol buffers of
the client's own package (`wandb.proto`).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator

BLOCK_BYTES = 32 * 1024
CHUNK = struct.Struct("<IHB")
FILE_HEADER = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


class NoLogError(ValueError):
    """The file does not begin as a log of W&B does."""


def whole_records(content: bytes) -> Iterator[bytes]:
    """The records of a log, up to its end or to the first that is torn or damaged. Raises NoLogError."""
    if not content.startswith(FILE_HEADER[:6]) or len(content) < len(FILE_HEADER):
        raise NoLogError("it does not begin as a log of W&B does")
    position = len(FILE_HEADER)
    parts: list[bytes] = []
    while True:
        left_in_block = BLOCK_BYTES - position % BLOCK_BYTES
        if left_in_block < CHUNK.size:
            position += left_in_block
        if position + CHUNK.size > len(content):
            return
        checksum, length, kind = CHUNK.unpack_from(content, position)
        data = content[position + CHUNK.size : position + CHUNK.size + length]
        begins = kind in (FULL, FIRST)
        # A file that was extended but never written reads as zeros: no kind.
        if kind not in (FULL, FIRST, MIDDLE, LAST) or begins is bool(parts) or len(data) < length:
            return
        if zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
            return
        position += CHUNK.size + length
        parts.append(data)
        if kind in (FULL, LAST):
            yield b"".join(parts)
            parts = []


def log_of(records: Iterable[bytes]) -> bytes:
    """A log that holds these records."""
    log = bytearray(FILE_HEADER)
    for record in records:
        begin, rest = True, memoryview(record)
        while begin or rest:
            left_in_block = BLOCK_BYTES - len(log) % BLOCK_BYTES
            if left_in_block < CHUNK.size:
                log += bytes(left_in_block)
                left_in_block = BLOCK_BYTES
            data, rest = rest[: left_in_block - CHUNK.size], rest[left_in_block - CHUNK.size :]
            kind = (FIRST if rest else FULL) if begin else (MIDDLE if rest else LAST)
            log += CHUNK.pack(zlib.crc32(data, zlib.crc32(bytes([kind]))), len(data), kind)
            log += data
            begin = False
    return bytes(log)
