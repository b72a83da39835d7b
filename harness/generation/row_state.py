"""A text while it is written."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class RowState:
    """What the choice of a row's next token depends on, besides the model."""

    key: int
    """Of its noise, see `harness.generation.noise.row_key`."""
    history: list[int]
    """Prompt and written tokens, without padding."""
    prompt_tokens: int
    """How many of them are the prompt's."""
    memory: dict[str, float] = field(default_factory=dict)
    """What samplers that learn keep of this row."""

    @property
    def position(self) -> int:
        """Of the next token in the text: 0, 1, …"""
        return len(self.history) - self.prompt_tokens
