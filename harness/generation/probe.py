"""Probe whether a model writes the same in a batch as alone: some families look at the padding before shorter texts."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from harness.generation.cache import takes_cache
from harness.generation.decode import CachedBatch, Reader
from harness.models.vocabulary import vocabulary_size

TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-4, torch.float16: 5e-3, torch.bfloat16: 5e-2}
"""Rounding moves logits by less, relative to the largest; padding that is seen moves them by more."""
LENGTHS = (8, 3)
"""Tokens of the texts that the probe reads together."""

Way = Literal["batches", "alone", "uncached"]
"""batches: rows of all lengths together, with a cache; alone: one row at a time; uncached: whole texts in every step."""


def way_of_writing(reader: Reader) -> Way:
    """How this model can be decoded, tried with a few random tokens."""
    model = reader.model
    if not takes_cache(model):
        return "uncached"
    together = _deviation(reader, LENGTHS)
    if together is None:
        return "batches"
    return "alone" if _deviation(reader, LENGTHS[:1]) is None else "uncached"


def _deviation(reader: Reader, lengths: tuple[int, ...]) -> str | None:
    """How rows of these lengths, which are read together and go on by one token, differ from each of them alone; None: not at all."""
    generator = torch.Generator().manual_seed(0)
    rows = vocabulary_size(reader.model)
    texts = [torch.randint(rows, (length + 1,), generator=generator).tolist() for length in lengths]
    batch = CachedBatch(reader)
    try:
        first = batch.replace([], [text[:-1] for text in texts], range(len(texts)))
        second = batch.step([text[-1] for text in texts])
    # What families make of a cache, or of a mask, that they do not know.
    except (ValueError, KeyError, IndexError, AttributeError, TypeError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return f"{type(error).__name__}: {error}"
    for index, text in enumerate(texts):
        for found, alone in ((first[index], reader.alone(text[:-1])[0]), (second[index], reader.alone(text)[0])):
            if _differ(found, alone):
                return f"logits differ by {float((found - alone).abs().max()):.2g}"
    return None


def _differ(found: Tensor, alone: Tensor) -> bool:
    tolerance = TOLERANCES.get(found.dtype, 1e-4)
    off = float((found.float() - alone.float()).abs().max())
    return not off <= tolerance * max(1.0, float(alone.float().abs().max()))
