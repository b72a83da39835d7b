"""A tokenizer small enough to read, and text to go with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from harness.config.schema import DataConfig, SourceConfig
from harness.data.byte_bpe import train_byte_bpe

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "rain", "falls", "on", "green", "hills", "and"]


@dataclass
class SmallTokenizer:
    """What harness.data needs of a fast tokenizer of transformers."""

    backend_tokenizer: Tokenizer
    eos_token_id: int | None = 0


@pytest.fixture(scope="session")
def tokenizer_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    train_byte_bpe([" ".join(WORDS)] * 3, 300, directory)
    return directory


@pytest.fixture
def tokenizer(tokenizer_directory: Path) -> SmallTokenizer:
    return SmallTokenizer(Tokenizer.from_file(str(tokenizer_directory / "tokenizer.json")))


def story(number: int, words: int) -> str:
    """A text that no other number has."""
    return f"{number}: " + " ".join(WORDS[(number * 7 + i * (number % 5 + 1)) % len(WORDS)] for i in range(words))


@pytest.fixture
def stories() -> Callable[[range], list[str]]:
    """Texts of various lengths, different for different numbers."""
    return lambda numbers: [story(number, 3 + number * 13 % 60) for number in numbers]


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[[str, Iterable[str]], Path]:
    def write(name: str, texts: Iterable[str]) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        return path

    return write


@pytest.fixture
def config(tmp_path: Path, write_jsonl: Callable[[str, Iterable[str]], Path], stories: Callable[[range], list[str]]) -> DataConfig:
    """Two sources, one of them replayed; 80 and 60 documents."""
    return DataConfig(
        sources={
            "docs": SourceConfig(path=str(write_jsonl("docs.jsonl", stories(range(80))))),
            "base": SourceConfig(path=str(write_jsonl("base.jsonl", stories(range(100, 160)))), replay=True),
        },
        replay_share=0.25,
        context_length=32,
        cache_dir=str(tmp_path / "cache"),
    )


CONTROL_TOKENS = ["<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]


@pytest.fixture(scope="session")
def chat_tokenizer_directory(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with the control tokens of ChatML and Llama 3, and no chat template."""
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tokenizer_directory)
    loaded.backend_tokenizer.add_special_tokens(CONTROL_TOKENS)
    directory = tmp_path_factory.mktemp("chat_tokenizer")
    loaded.save_pretrained(directory)
    return directory


@pytest.fixture
def chat_tokenizer(chat_tokenizer_directory: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(chat_tokenizer_directory)


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    def write(*rows: Any, name: str = "chat.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write
