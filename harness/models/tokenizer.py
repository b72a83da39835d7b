"""Loading a tokenizer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from harness.config.errors import wrong_value
from harness.config.schema import Config
from harness.models.pretrained import tokenizer_at


def load_tokenizer(config: Config) -> Any:
    """The fast tokenizer of `tokenizer.path`, or of the model, with `tokenizer.new_tokens`.

    Raises InputError when there is none to load, or a new token is none.
    """
    key, path = _place(config)
    tokenizer = tokenizer_at(path, key=key)
    if config.tokenizer.new_tokens:
        add_control_tokens(tokenizer, config.tokenizer.new_tokens, key="tokenizer.new_tokens")
    return tokenizer


def _place(config: Config) -> tuple[str, str]:
    """Key and path of the tokenizer. That of a merge is its base's, which may be a run's."""
    if config.tokenizer.path:
        return "tokenizer.path", config.tokenizer.path
    if config.model.path is not None:
        return "model.path", config.model.path
    from harness.models.merged import frame_folder

    found = frame_folder(config.model)
    assert found is not None, "checked: a model from scratch has a tokenizer"
    return found


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
