"""The weight files of a model directory, read from their headers, a few rows at a time, without mapping them."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.config.documents import DamagedError, as_mapping, parse_json, read_json
from harness.config.errors import wrong_value
from harness.merging.operands import Floats
from harness.merging.source import EXACT_BYTES, FLOAT_BYTES, Tensor, as_rows, to_float32

HEADER_MULTIPLE = 8
MOST_HEADER_BYTES = 100_000_000
"""As safetensors has it."""
PART_BYTES = 1 << 22
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


class WeightFile:
    """A safetensors file. It is read by position, so that what is read counts once, as memory that is given back."""

    def __init__(self, path: Path) -> None:
        """Raises DamagedError for what is no whole safetensors file."""
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        self.size = os.fstat(self._descriptor).st_size
        self.header, self.data_start = self._read_header()

    def read(self, start: int, count: int) -> npt.NDArray[np.uint8]:
        """`count` bytes from the position `start` of the file on."""
        buffer = np.empty(count, dtype=np.uint8)
        view, done = memoryview(buffer.data), 0
        while done < count:
            got = os.preadv(self._descriptor, [view[done:]], start + done)
            if not got:
                raise DamagedError(self.path, f"it ends at byte {start + done:,}, within a tensor")
            done += got
        return buffer

    def tensors(self) -> dict[str, StoredTensor]:
        """Raises DamagedError for entries that do not fit the file."""
        found = {}
        for name, entry in self.header.items():
            if name == "__metadata__":
                continue
            found[name] = self._tensor(name, as_mapping(entry, self.path))
        return found

    def _tensor(self, name: str, entry: Mapping[str, Any]) -> StoredTensor:
        dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
        sizes = {**FLOAT_BYTES, **EXACT_BYTES}
        is_shape = isinstance(shape, list) and all(type(side) is int and 0 <= side < 2**48 for side in shape)  # true is none
        is_span = isinstance(offsets, list) and len(offsets) == 2 and all(type(offset) is int for offset in offsets)
        if not isinstance(dtype, str) or not is_shape or not is_span:
            raise DamagedError(self.path, f"the entry of {name} in its header is none of a tensor")
        assert isinstance(shape, list)
        assert isinstance(offsets, list)
        start, stop = offsets
        if dtype in sizes and stop - start != sizes[dtype] * int(np.prod(shape, dtype=object)):
            raise DamagedError(self.path, f"{name} has {stop - start:,} bytes, and not those of {dtype} {shape}")
        if not 0 <= start <= stop <= self.size - self.data_start:
            raise DamagedError(self.path, f"{name} lies at bytes {start:,} to {stop:,} of {self.size - self.data_start:,}: the file is cut")
        return StoredTensor(self, dtype, tuple(shape), self.data_start + start, stop - start)

    def _read_header(self) -> tuple[dict[str, Any], int]:
        if self.size < 8:
            raise DamagedError(self.path, "it is no safetensors file, which begins with the length of its header")
        (length,) = struct.unpack("<Q", self.read(0, 8).tobytes())
        if length > MOST_HEADER_BYTES or length > self.size - 8:
            raise DamagedError(self.path, f"its header would have {length:,} bytes; the file is cut, or no safetensors file")
        try:
            return as_mapping(parse_json(self.read(8, length).tobytes()), self.path), 8 + length
        except (ValueError, RecursionError) as error:
            raise DamagedError(self.path, f"its header is no JSON: {' '.join(str(error).split())}") from None


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file."""

    file: WeightFile
    dtype: str
    dimensions: tuple[int, ...]
    start: int
    """Position in the file, in bytes."""
    size: int
    """In bytes."""

    @property
    def shape(self) -> tuple[int, int]:
        return as_rows(self.dimensions)

    def read(self, start: int, stop: int) -> Floats:
        columns = self.shape[1]
        size = FLOAT_BYTES[self.dtype] * columns
        return to_float32(self.file.read(self.start + start * size, (stop - start) * size), self.dtype).reshape(stop - start, columns)

    def raw(self) -> Iterator[bytes]:
        for done in range(0, self.size, PART_BYTES):
            yield self.file.read(self.start + done, min(PART_BYTES, self.size - done)).tobytes()


def stored_tensors(folder: Path, *, key: str) -> tuple[dict[str, Tensor], list[Path]]:
    """The tensors of a model directory, given in `key`, and the files that they are in.

    Raises InputError where there are none: other formats of weights are pickles, or not ours to read.
    """
    if (folder / SINGLE).is_file():
        files = [folder / SINGLE]
    elif (folder / INDEX).is_file():
        weights = as_mapping(read_json(folder / INDEX), folder / INDEX).get("weight_map")
        names = sorted(set(map(str, weights.values()))) if isinstance(weights, dict) else []
        outside = [name for name in names if Path(name).name != name]
        if not names or outside:
            raise wrong_value(key, folder, f"its {INDEX} names {outside[0] if outside else 'no file'}; valid: files of this directory")
        files = [folder / name for name in names]
    else:
        others = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.gguf") for path in folder.glob(pattern))
        what = f"its weights ({others[0]}) are no safetensors, and pickles may run code" if others else "no weights in it"
        raise wrong_value(key, folder, f"{what}; valid: a directory with {SINGLE}, or {INDEX} and its files")
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise wrong_value(key, folder, f"its {INDEX} names {missing[0]}, which is not there")
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors.update(WeightFile(file).tensors())
    return tensors, files


def header_of(tensors: Iterable[tuple[str, str, tuple[int, ...], int]], *, size: int = 0) -> bytes:
    """What a file begins with that holds these tensors one after another: name, type, shape and bytes of each. size: in bytes, at least."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, dtype, shape, count in tensors:
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + count]}
        offset += count
    text = json.dumps(header, separators=(",", ":")).encode().ljust(size - 8)
    text += b" " * (-len(text) % HEADER_MULTIPLE)
    return struct.pack("<Q", len(text)) + text


def files_fingerprint(files: list[Path], *more: bytes) -> str:
    """A hash of the files' names, sizes, heads and tails: to read 100 GB at each start would cost more than it tells."""
    digest = hashlib.sha256(b"\0".join(more))
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(1 << 20))
            stream.seek(max(0, size - (1 << 20)))
            digest.update(stream.read())
    return digest.hexdigest()
