"""Probe whether a model writes the same in a batch as alone: some families look at the padding before shorter texts."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from harness.generation.cache import sees_all, takes_cache
from harness.generation.decode import CachedBatch, Reader
from harness.models.vocabulary import vocabulary_size

TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-4, torch.float16: 5e-3, torch.bfloat16: 5e-2}
"""Rounding moves logits by less, relative to the largest; padding that is seen moves them by more."""
LENGTHS = (8, 3)
"""Tokens of the texts that the probe reads together."""

Way = Literal["own_mask", "batches", "alone", "uncached"]
"""batches: rows of all lengths together, with a cache; own_mask: and with a mask of our own, see `CachedBatch`; alone: one row at a time;
uncached: whole texts in every step."""


def way_of_writing(reader: Reader) -> Way:
    """How this model can be decoded, tried with a few random tokens."""
    model = reader.model
    if not takes_cache(model):
        return "uncached"
    if not _is_as_alone(reader, LENGTHS[:1]):
        return "uncached"
    if sees_all(model) and _is_as_alone(reader, LENGTHS, own_mask=True):
        return "own_mask"
    return "batches" if _is_as_alone(reader, LENGTHS) else "alone"


def _is_as_alone(reader: Reader, lengths: tuple[int, ...], *, own_mask: bool = False) -> bool:
    """Whether rows of these lengths, which are read together and go on by one token, have the logits of each of them alone."""
    generator = torch.Generator().manual_seed(0)
    rows = vocabulary_size(reader.model)
    texts = [torch.randint(rows, (length + 1,), generator=generator).tolist() for length in lengths]
    batch = CachedBatch(reader, own_mask=own_mask)
    try:
        first = batch.replace([], [text[:-1] for text in texts], range(len(texts)))
        second = batch.step([text[-1] for text in texts])
    # What families make of a cache, or of a mask, that they do not know.
    except (ValueError, KeyError, IndexError, AttributeError, TypeError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return False
    pairs = [(first[index], reader.alone(text[:-1], len(text) - 1)[0]) for index, text in enumerate(texts)]
    pairs += [(second[index], reader.alone(text, len(text) - 1)[0]) for index, text in enumerate(texts)]
    return not any(_differ(found, alone) for found, alone in pairs)


def _differ(found: Tensor, alone: Tensor) -> bool:
    tolerance = TOLERANCES.get(found.dtype, 1e-4)
    off = float((found.float() - alone.float()).abs().max())
    return not off <= tolerance * max(1.0, float(alone.float().abs().max()))
