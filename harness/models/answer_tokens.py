"""Which of the tokens that a model reads are an answer, told to a part of it that acts on these alone, or on all others.

Whoever calls the model knows: training and evaluation by what is predicted, generation by what was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class AnswerTokens:
    """What a model was told of the tokens that it reads right now; the model has it as `answer_tokens`."""

    def __init__(self) -> None:
        self.mask_BT: Tensor | None = None
        """bool [B, T]; None where nothing was told."""


@contextmanager
def telling_answers(model: nn.Module, mask_BT: Callable[[], Tensor]) -> Iterator[None]:
    """Within it, a model that wants to know is told which tokens are an answer. mask_BT: makes bool [B, T], see `AnswerTokens`."""
    told: Any = getattr(model, "answer_tokens", None)
    if not isinstance(told, AnswerTokens):
        yield
        return
    told.mask_BT = mask_BT()
    try:
        yield
    finally:
        told.mask_BT = None
