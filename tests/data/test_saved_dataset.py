"""What Hugging Face datasets saves to disk, written by that library and read without it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.config.errors import InputError
from harness.data.chat.formats import read_conversations
from harness.data.sources import read_files, source_files
from harness.evaluation.choice_formats import read_questions

datasets = pytest.importorskip("datasets")
KEY = "data.sources.docs"
TEXTS = [f"Text {number} äöü" for number in range(2500)]


def texts(path: Path, split: str | None = None) -> list[str]:
    return [document.text for document in read_files(source_files(str(path), key=KEY, split=split), "text", key=KEY)]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A Dataset in two files, with another column that is not asked for."""
    table = datasets.Dataset.from_dict({"text": TEXTS, "n": [[number] for number in range(len(TEXTS))]})
    table.save_to_disk(tmp_path / "saved", num_shards=2)
    return tmp_path / "saved"


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    parts = {name: datasets.Dataset.from_dict({"text": [f"one {name}", f"two {name}"]}) for name in ("train", "test")}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "splits")
    return tmp_path / "splits"


def test_a_dataset_gives_its_documents_in_its_order(saved: Path) -> None:
    files = source_files(str(saved), key=KEY)
    assert [file.name for file in files] == ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    assert texts(saved) == TEXTS
    positions = [document.position for document in read_files(files, "text", key=KEY)]
    assert positions == sorted(positions)
    assert 0.9 < positions[-1] / sum(file.stat().st_size for file in files) <= 1


def test_a_dataset_dict_gives_the_split_that_is_asked_for(splits: Path) -> None:
    assert texts(splits, "train") == ["one train", "two train"]
    assert texts(splits, "test") == ["one test", "two test"]
    assert texts(splits / "test", None) == ["one test", "two test"]
    message = f"{KEY}.split=tset: no such split in {splits}; valid: train, test. Did you mean 'test'?"
    with pytest.raises(InputError, match=re.escape(message)):
        texts(splits, "tset")
    with pytest.raises(InputError, match=re.escape(f"{KEY}: {splits} has the splits train, test; choose one with {KEY}.split")):
        texts(splits, None)


def test_nested_rows_are_conversations_and_questions(tmp_path: Path) -> None:
    chats = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": f"Hello {n}"}]} for n in range(3)]
    datasets.Dataset.from_list(chats).save_to_disk(tmp_path / "chats")
    found = read_conversations(source_files(str(tmp_path / "chats"), key=KEY), "auto", key=KEY)
    assert [document.conversation.messages[1].content for document in found] == ["Hello 0", "Hello 1", "Hello 2"]
    arc = [{"question": "Which?", "choices": {"text": ["red", "blue"], "label": ["A", "B"]}, "answerKey": "B"}]
    datasets.Dataset.from_list(arc).save_to_disk(tmp_path / "arc")
    assert [question.answer for question in read_questions(source_files(str(tmp_path / "arc"), key=KEY), "auto", key=KEY)] == [1]


def test_what_is_missing_or_broken_is_named(saved: Path, splits: Path) -> None:
    second = saved / "data-00001-of-00002.arrow"
    content = second.read_bytes()
    second.write_bytes(b"no arrow at all, whatever it says")
    with pytest.raises(InputError, match=re.escape(f"{KEY}: {second}: not a readable arrow file")):
        texts(saved)
    second.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=re.escape(f"{KEY}: {second}: cannot be read (Expected")):
        texts(saved)
    second.unlink()
    with pytest.raises(InputError, match=re.escape(f"{KEY}: {second}: no such file, but {saved}/state.json names it")):
        texts(saved)
    (saved / "state.json").write_text("{")
    with pytest.raises(InputError, match=re.escape(f"{KEY}: {saved}/state.json: cannot be read")):
        texts(saved)
    (splits / "train" / "state.json").unlink()
    with pytest.raises(InputError, match=re.escape(f"{KEY}: {splits}/train: no state.json in it")):
        texts(splits, "train")


def test_the_library_is_not_needed(saved: Path) -> None:
    code = """
import sys
from harness.data.sources import read_files, source_files
assert sum(1 for _ in read_files(source_files(sys.argv[1], key="k"), "text", key="k")) == 2500
assert "datasets" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, str(saved)], check=True)


@pytest.mark.parametrize("content", ["file", "data set"])
def test_a_split_of_what_has_none_is_refused(content: str, saved: Path, tmp_path: Path) -> None:
    path = saved
    if content == "file":
        path = tmp_path / "docs.jsonl"
        path.write_text('{"text": "one"}\n')
    with pytest.raises(InputError, match=re.escape(f"{KEY}.split=test: {path} has no splits")):
        texts(path, "test")
