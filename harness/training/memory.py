"""Telling that memory ran out from other errors."""

from __future__ import annotations

import torch

WORDS = ("can't allocate memory", "not enough memory: you tried to allocate", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""Of torch's allocators where they raise a plain RuntimeError."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it came of, says that the host or the device has no memory left."""
    while error is not None:
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False
