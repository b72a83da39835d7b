"""Loading a tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from harness.config.errors import wrong_value
from harness.config.remote_code import is_trusted
from harness.config.schema import Config


def load_tokenizer(config: Config) -> Any:
    """The fast tokenizer of `tokenizer.path`, or of the model, with `tokenizer.new_tokens`.

    Raises InputError when there is none to load, or a new token is none.
    """
    key, path = ("tokenizer.path", config.tokenizer.path) if config.tokenizer.path else ("model.path", config.model.path)
    tokenizer = tokenizer_at(path, key=key)
    if config.tokenizer.new_tokens:
        add_control_tokens(tokenizer, config.tokenizer.new_tokens, key="tokenizer.new_tokens")
    return tokenizer


def tokenizer_at(path: str | None, *, key: str) -> Any:
    """The fast tokenizer at a path given in the configuration's `key`. Raises InputError when there is none to load."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, use_fast=True, trust_remote_code=path is not None and is_trusted(path))
    except (OSError, ValueError, KeyError) as error:
        raise wrong_value(key, path, f"no tokenizer could be loaded from it: {_first_line(error)}") from error
    if not tokenizer.is_fast:
        raise wrong_value(key, path, "not a fast tokenizer (no tokenizer.json)")
    return tokenizer


def add_control_tokens(tokenizer: Any, tokens: Sequence[str], *, key: str) -> list[int]:
    """Add tokens that the tokenizer lacks; their ids. Raises InputError, naming `key`, for one that it has."""
    from tokenizers import AddedToken

    vocabulary = tokenizer.get_vocab()
    known = [token for token in tokens if token in vocabulary]
    if known:
        raise wrong_value(key, ", ".join(known), "in the tokenizer already; adapter.train_tokens trains tokens that exist")
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens], special_tokens=True)
    return [int(index) for index in tokenizer.convert_tokens_to_ids(list(tokens))]


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """A hash of everything that decides how text becomes tokens."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
