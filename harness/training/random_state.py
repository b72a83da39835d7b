"""The state of every global random generator: seeded when a run begins, kept in its checkpoints."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import torch


def seed_random_state(seed: int, *, rank: int = 0, step: int = 0) -> None:
    """Begin dropout's numbers, and whatever else a model draws while it trains: the same however its weights came about.

    Each rank draws its own. step: where a rank begins that its run did not have before.
    """
    if rank:
        seed = int.from_bytes(hashlib.blake2b(f"{seed}\0{rank}\0{step}".encode(), digest_size=4).digest(), "little")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """The state of every global random generator, as plain containers and tensors."""
    name, numbers, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": [str(name), numbers.tolist(), int(position), int(has_gauss), float(gauss)],  # type: ignore[union-attr]
        "torch": torch.get_rng_state(),
        # Of this rank's own device: asking for all of them would occupy memory on each.
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [],  # type: ignore[no-untyped-call]
    }


def restore_random_state(state: dict[str, Any]) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, words, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(words, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"]:
        torch.cuda.set_rng_state(state["cuda"][0].cpu())
