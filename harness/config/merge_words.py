"""How the models of a merge are named: the key, and the words that stand for several models."""

from __future__ import annotations

KEY = "model.merge"
SEVERAL = ("study:", "confirm:", "run:", "trunk:")
"""What begins the word for several models."""
COUNTED = {"top": ("study:",), "last": ("run:", "trunk:")}
"""Of which words a key says how many models they stand for."""


def prefix_of(word: str) -> str:
    """That of a word for several models; "" of others."""
    return next((prefix for prefix in SEVERAL if word.startswith(prefix)), "")
