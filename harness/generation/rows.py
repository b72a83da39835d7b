"""Prompts, and what a model writes after them. No torch here: verifiers, reports and the command line read these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Finish = Literal["stop", "length"]
"""Why a text ended. stop: with an end token of the model, or at a stop string; length: at max_new_tokens, or at the end of the context."""


class NonFiniteLogitsError(ArithmeticError):
    """The model's logits are NaN."""


@dataclass(frozen=True)
class Prompt:
    """What a model goes on from."""

    id: str
    """Names the row: its noise is keyed by (sampling.seed, id, draw, position)."""
    text: str
    """As the model reads it: of a conversation, what the chat template makes of it."""
    token_ids: tuple[int, ...]
    """The text as tokens, with what the tokenizer or the template puts before it; a soft prompt is not among them."""


@dataclass(frozen=True)
class Draw:
    """A text that is to be written."""

    prompt: Prompt
    draw: int
    """0, 1, … of the texts after this prompt."""


@dataclass(frozen=True)
class Limits:
    """When a text ends."""

    max_new_tokens: int
    stop: tuple[str, ...] = ()
    """Strings; the text ends before the first of them that it holds."""


@dataclass(frozen=True)
class Generation:
    """One text that a model wrote."""

    id: str
    """Of its prompt."""
    draw: int
    """0, 1, … of the texts that are written for one prompt."""
    text: str
    """Without the end token, and without what follows a stop string."""
    token_ids: tuple[int, ...]
    """All tokens that were written, the end token among them."""
    finish: Finish

    @property
    def tokens(self) -> int:
        """How many were written."""
        return len(self.token_ids)
