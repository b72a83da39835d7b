"""trainer.precision without a Trainer, for evaluation alone; the same as Lightning's plugins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def weights_dtype(precision: str) -> torch.dtype:
    """The dtype of the weights."""
    import torch

    return torch.bfloat16 if precision == "bf16-true" else torch.float32


def forward_context(precision: str, device: str) -> AbstractContextManager[None]:
    """Around a forward pass on a device of this type ("cpu", "cuda", "mps")."""
    import torch

    match precision:
        case "bf16-mixed":
            return torch.autocast(device, dtype=torch.bfloat16, cache_enabled=False)
        case "16-mixed":
            return torch.autocast(device, dtype=torch.float16, cache_enabled=False)
        case "bf16-true":
            return _default_dtype(torch.bfloat16)
        case _:
            return nullcontext()


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
