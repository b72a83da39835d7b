"""Which errors say that memory ran out."""

from __future__ import annotations

import torch

from harness.config.errors import causes

WORDS = ("can't allocate memory", "not enough memory: you tried to allocate", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""Of torch's allocators where they raise a plain RuntimeError."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it came of, says that the host or the device has no memory left."""
    for one in causes(error):
        if isinstance(one, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(one, RuntimeError) and any(words in str(one) for words in WORDS):
            return True
    return False
