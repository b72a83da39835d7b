"""The ids of a soft prompt: negative, so that they need no place in the vocabulary."""

from __future__ import annotations

from harness.data.ragged import Int64


def prompt_ids(positions: Int64) -> Int64:
    """The ids of the soft prompt's embeddings 0, 1, … (any shape): -1, -2, …, as `harness.models.adapters.soft_prompt` reads them."""
    return -1 - positions
