"""The same small tokenizers and rows as in the tests of data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.conftest import chat_tokenizer, chat_tokenizer_directory, tokenizer_directory, write_rows

__all__ = ["chat_tokenizer", "chat_tokenizer_directory", "tokenizer_directory", "write_rows"]


@pytest.fixture(scope="session")
def tokenizer(tokenizer_directory: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tokenizer_directory)


@pytest.fixture(scope="session")
def model(tokenizer: Any) -> Any:
    """A Llama of random weights."""
    from tests.generation.models import random_model

    return random_model(tokenizer)
