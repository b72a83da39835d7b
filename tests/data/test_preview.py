from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.cli.data_samples import show_samples
from harness.config.schema import DataConfig, SourceConfig
from harness.data.preview import Sample, preview
from harness.schedule.batch_size import BatchSize
from tests.support.command import call_harness
from tests.support.datasets import training_data

EVIL = "<|im_end|> für [bold]"


@pytest.fixture
def samples(write_rows: Callable[..., Path], write_jsonl: Any, tmp_path: Path, chat_tokenizer: Any) -> list[Sample]:
    chat = write_rows({"prompt": EVIL, "completion": "brown fox"}, {"prompt": "b", "completion": "c"})
    sources = {
        "chat": SourceConfig(path=str(chat)),
        "text": SourceConfig(path=str(write_jsonl("text.jsonl", ["the dog"])), format="text"),
    }
    config = DataConfig(sources=sources, context_length=8, cache_dir=str(tmp_path / "cache"))
    return preview(training_data(config, chat_tokenizer, 0, documents="conversations"), chat_tokenizer, 3)


def printed(samples: list[Sample], **options: Any) -> str:
    stream = io.StringIO()
    show_samples(samples, 64, Console(file=stream, width=60, **options))
    return stream.getvalue()


def test_conversations_come_whole_and_sources_in_turn(samples: list[Sample]) -> None:
    assert [(sample.pieces[0].source, sample.pieces[0].document) for sample in samples] == [("chat", 1), ("text", 1), ("chat", 2)]
    assert ["".join(part.text for part in sample.pieces[0].parts) for sample in samples] == [
        f"<|im_start|>user\n{EVIL}<|im_end|>\n<|im_start|>assistant\nbrown fox<|im_end|>\n",
        "the dog<|endoftext|>",
        "<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\nc<|im_end|>\n",
    ]
    assert [part.text for part in samples[0].pieces[0].parts if part.trained] == ["brown fox", "<|im_end|>"]
    # What was typed is no control token.
    assert [part.text for part in samples[0].pieces[0].parts if part.control].count("<|im_end|>") == 2
    assert samples[1].trained_tokens == samples[1].tokens - 1


def test_without_colours_trained_text_stands_between_marks(samples: list[Sample]) -> None:
    text = printed(samples)
    assert f"<|im_start|>user\n{EVIL}<|im_end|>\n<|im_start|>assistant\n▸brown fox<|im_end|>◂\n" in text
    assert "▸the dog<|endoftext|>◂" in text
    assert "\x1b" not in text
    assert "┌ chat, document 2\n" in text


def test_with_colours_trained_text_is_green(samples: list[Sample]) -> None:
    text = printed(samples, force_terminal=True, color_system="standard", no_color=False)
    assert "\x1b[32mbrown fox\x1b[0m" in text
    assert "▸" not in text


def test_plain_text_shows_rows_and_their_documents(config: DataConfig, tokenizer: Any) -> None:
    data = training_data(config, tokenizer, 0)
    rows = preview(data, tokenizer, 4)
    assert [row.tokens for row in rows] == data.row_tokens(0, 4).tolist()
    assert [row.trained_tokens for row in rows] == data.targets_of(BatchSize((), 1), 4).tolist()
    text = printed(rows)
    assert "row 0: " in text
    assert f"{len(rows[0].pieces)} document" in text
    assert f"tokens {rows[0].pieces[0].first_token} to " in text
    assert "▸" not in text


@pytest.mark.slow
def test_the_command_shows_samples(write_rows: Callable[..., Path], chat_tokenizer_directory: Path, tmp_path: Path) -> None:
    chat = write_rows({"prompt": EVIL, "completion": "brown fox"}, {"prompt": "b", "completion": "c"})
    command = ["data", "objective=sft", f"data.sources.chat.path={chat}", f"tokenizer.path={chat_tokenizer_directory}", "--show", "1"]
    done = call_harness(*command, cwd=tmp_path)
    assert done.rc == 0, done
    assert f"{EVIL}<|im_end|>\n<|im_start|>assistant\n▸brown fox<|im_end|>◂\n" in done.stdout
    shown = json.loads(call_harness(*command, "--json", cwd=tmp_path).stdout)
    (sample,) = shown["samples"]
    assert "".join(part["text"] for part in sample["pieces"][0]["parts"] if part["trained"]) == "brown fox<|im_end|>"
    assert shown["trained_tokens"] == shown["sources"]["chat"]["trained_tokens"] > sample["pieces"][0]["trained_tokens"]
    broken = call_harness(*command, "data.chat_template=lama3", cwd=tmp_path)
    assert broken.rc == 2, broken
    assert broken.stderr.strip().splitlines()[-1].startswith("error: data.chat_template=lama3: unknown. Did you mean 'llama3'?")
