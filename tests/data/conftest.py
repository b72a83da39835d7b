"""A tokenizer small enough to read, and text to go with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

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
