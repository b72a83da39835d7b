"""Control vectors of llama.cpp: a GGUF file (version 3) of tensors direction.N, which are added to the output of block N, from 0.

The format is llama.cpp's (docs/gguf.md of ggml; common_control_vector_load of common.cpp): any tensor of another name voids the file, a
block without a tensor stays as it is, and block 0 cannot be named.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.config.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

VERSION, ALIGNMENT = 3, 32
UINT32, STRING, FLOAT32 = 4, 8, 0
"""Types of values, and of tensors."""
PROVED = ("llama",)
"""Families (model_type) for which a test compares the logits of a real llama.cpp."""


def control_vector(added: Mapping[int, Tensor], *, family: str) -> bytes:
    """The file. added: by block, what is added to its output: [H]. Raises InputError for block 0."""
    if 0 in added:
        raise InputError("adapter.block=0: a control vector of llama.cpp begins behind block 1; valid: a later block, or --format vector")
    vectors = {block: vector.detach().float().cpu().numpy().astype("<f4") for block, vector in sorted(added.items())}
    file = b"GGUF" + struct.pack("<IQQ", VERSION, len(vectors), 3)
    for name, value in (("general.architecture", "controlvector"), ("controlvector.model_hint", family)):
        file += _text(name) + struct.pack("<I", STRING) + _text(value)
    file += _text("controlvector.layer_count") + struct.pack("<II", UINT32, len(vectors))
    offset, data = 0, b""
    for block, vector in vectors.items():
        file += _text(f"direction.{block}") + struct.pack("<IQIQ", 1, len(vector), FLOAT32, offset)
        data += _padded(vector.tobytes())
        offset = len(data)
    return _padded(file) + data


def not_proved(family: str) -> str | None:
    """What is to be said of a control vector for a family that no test has compared; None of one that it has."""
    if family in PROVED:
        return None
    return f"llama.cpp was compared with the steered model for {', '.join(PROVED)}, not for {family}: compare what both write (--try)"


def _text(text: str) -> bytes:
    content = text.encode()
    return struct.pack("<Q", len(content)) + content


def _padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % ALIGNMENT)
