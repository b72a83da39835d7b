"""Loading a tokenizer."""

from __future__ import annotations

import hashlib
from typing import Any

from harness.config.errors import wrong_value
from harness.config.schema import Config


def load_tokenizer(config: Config) -> Any:
    """The fast tokenizer of `tokenizer.path`, or of the model. Raises InputError when there is none to load."""
    from transformers import AutoTokenizer

    key, path = ("tokenizer.path", config.tokenizer.path) if config.tokenizer.path else ("model.path", config.model.path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, use_fast=True)
    except (OSError, ValueError, KeyError) as error:
        raise wrong_value(key, path, f"no tokenizer could be loaded from it: {_first_line(error)}") from error
    if not tokenizer.is_fast:
        raise wrong_value(key, path, "not a fast tokenizer (no tokenizer.json)")
    return tokenizer


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """A hash of everything that decides how text becomes tokens."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
