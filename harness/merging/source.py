"""A model on disk as tensors by name, known from headers alone until rows are read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from harness.merging.operands import Floats, Rows

FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Types that are merged, as safetensors names them."""
EXACT_BYTES = {"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}
"""Types of buffers, which must be the same in all models."""
LARGEST: dict[str, float] = {
    "F64": float(np.finfo(np.float64).max),
    "F32": float(np.finfo(np.float32).max),
    "F16": 65504.0,
    "BF16": 3.3895313892515355e38,
}
TORCH_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class Tensor(Rows, Protocol):
    """A named tensor of a model."""

    @property
    def dtype(self) -> str:
        """As safetensors names it."""

    @property
    def dimensions(self) -> tuple[int, ...]: ...

    def raw(self) -> Iterator[bytes]:
        """Its bytes, in parts."""


def as_rows(dimensions: tuple[int, ...]) -> tuple[int, int]:
    """The last dimension is a row; a vector is one row."""
    return (math.prod(dimensions[:-1]), dimensions[-1]) if dimensions else (1, 1)


@dataclass(frozen=True)
class LowRank:
    """An update of a matrix, scaling · B A."""

    down: Tensor
    """A: [rank, in]."""
    up: Tensor
    """B: [out, rank]."""
    scaling: float
    transposed: bool
    """Whether the matrix is kept as [in, out], as GPT-2's are."""


@dataclass(frozen=True)
class Updates:
    """All that an adapter adds to its base."""

    base: str
    """The base's fingerprint."""
    by_tensor: Mapping[str, LowRank]


@dataclass(frozen=True)
class Source:
    """A model to merge."""

    label: str
    """As the user calls it."""
    config: Mapping[str, Any]
    """Its config.json."""
    tensors: Mapping[str, Tensor]
    vocabulary: Mapping[str, int] | None
    """Token to id; None where it has no tokenizer."""
    fingerprint: str
    folder: Path | None = None
    """Where its tokenizer and the like lie."""
    is_whole: bool = False
    """Whether `folder` is the model itself, as others load it."""
    updates: Updates | None = None
    """Of a base with an adapter, what is added to the base."""
    licence: str | None = None
    notes: tuple[str, ...] = field(default=())
    """What a reader of the plan should know of it."""


@dataclass(frozen=True)
class Column:
    """A vector as rows of one element."""

    tensor: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return self.tensor.shape[0] * self.tensor.shape[1], 1

    def read(self, start: int, stop: int) -> Floats:
        return self.tensor.read(0, self.tensor.shape[0]).reshape(-1, 1)[start:stop]


def to_float32(raw: npt.NDArray[np.uint8], dtype: str) -> Floats:
    """Stored bytes as float32, flat."""
    match dtype:
        case "BF16":
            bits: npt.NDArray[np.uint32] = np.left_shift(raw.view("<u2"), np.uint32(16), dtype=np.uint32)
            return bits.view(np.float32)
        case "F16":
            return raw.view("<f2").astype(np.float32)
        case "F64":
            return raw.view("<f8").astype(np.float32)
        case _:
            return raw.view("<f4")


def from_float32(values: Floats, dtype: str) -> npt.NDArray[Any]:
    """float32 rounded once, to the nearest and halves to even, in the bytes that are stored; of their shape."""
    match dtype:
        case "BF16":
            bits = values.view(np.uint32)
            # In place: most of the time would go to memory that is taken and given back.
            rounded_up = bits >> 16
            rounded_up &= 1
            rounded_up += 0x7FFF
            rounded_up += bits
            rounded_up >>= 16
            return rounded_up.astype("<u2")
        case "F16":
            return values.astype("<f2")
        case "F64":
            return values.astype("<f8")
        case _:
            return values.astype("<f4", copy=False)


def rounded(values: Floats, dtype: str) -> Floats:
    """float32 values as they will be read again from what is stored."""
    stored = from_float32(values, dtype)
    return to_float32(np.ascontiguousarray(stored).view(np.uint8).reshape(-1), dtype).reshape(values.shape)
