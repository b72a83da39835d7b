"""Rows of data sets, through the readers of training data."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from harness.config.synth_schema import SynthConfig
from harness.config.validate import to_section
from harness.data.chat.formats import read_conversations
from harness.data.preference.formats import read_pairs
from harness.data.preference.pair import Pair, TextPair
from harness.data.row import BadRows
from harness.data.sources import read_files
from harness.synthesis.emit import emit
from harness.synthesis.select import select
from tests.synthesis.made import made_row

ROWS = [
    made_row("It is\nfour.", draw=0, prompt="What is 2+2? {{ x }} <|im_end|>", s=0.25),
    made_row("Fünf \u2028 {}", draw=1, prompt="What is 2+2? {{ x }} <|im_end|>", s=0.75),
]


def recipe(**keys: Any) -> SynthConfig:
    needed = {"seeds": {"questions": {"path": "q.jsonl"}}, "teachers": {"t": {"model": "m"}}, "steps": {"answer": {"template": "{{ q }}"}}}
    return to_section(SynthConfig, {**needed, **keys})


def written(path: Path, config: SynthConfig) -> list[Path]:
    rows = emit(select(ROWS, config.select)[0], config)
    path.write_text("".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))
    return [path]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.jsonl"


@pytest.mark.parametrize("system", [None, "questions.question"])
@pytest.mark.parametrize("name", ["messages", "unpaired"])
def test_conversations_are_read_as_they_were_written(path: Path, name: str, system: str | None, caplog: pytest.LogCaptureFixture) -> None:
    files = written(path, recipe(emit={"format": name, "system": system, **({"label": "s"} if name == "unpaired" else {})}))
    with caplog.at_level(logging.WARNING):
        found = [one.conversation for one in read_conversations(files, "auto", key="data.sources.made")]
    before = [("system", ROWS[0].fields["questions"]["question"])] if system else []
    assert [[(message.role, message.content) for message in one.messages] for one in found] == [
        [*before, ("user", row.prompt), ("assistant", row.fields["answer"])] for row in ROWS
    ]
    # Only the label says nothing to a reader of conversations.
    assert [record.message.rpartition(": ")[2] for record in caplog.records] == (["label"] if name == "unpaired" else [])


def test_labels_are_scores_above_the_bound(path: Path) -> None:
    written(path, recipe(emit={"format": "unpaired", "label": "s", "label_above": 0.25}))
    assert [json.loads(line)["label"] for line in path.read_text().strip().split("\n")] == [False, True]


@pytest.mark.parametrize("lowest", [False, True])
def test_pairs_are_read_as_they_were_written(path: Path, lowest: bool) -> None:
    config = recipe(select={"name": "pairs", "by": "s", "lowest": lowest}, emit={"format": "preference"})
    files = written(path, config)
    better, worse = ROWS if lowest else ROWS[::-1]
    for as_text in (False, True):
        (document,) = read_pairs(files, as_text=as_text, rejected="worst", key="data.sources.made", bad=BadRows())
        pair = document.content
        assert pair.gap == 0.5
        if isinstance(pair, TextPair):
            assert (pair.prompt, pair.chosen, pair.rejected) == (better.prompt, better.fields["answer"], worse.fields["answer"])
        else:
            assert isinstance(pair, Pair)
            texts = [[message.content for message in part] for part in (pair.prompt.messages, pair.chosen, pair.rejected)]
            assert texts == [[better.prompt], [better.fields["answer"]], [worse.fields["answer"]]]


def test_a_pair_keeps_its_system_message(path: Path) -> None:
    config = recipe(select={"name": "pairs", "by": "s"}, emit={"format": "preference", "system": "questions.question"})
    (document,) = read_pairs(written(path, config), as_text=False, rejected="worst", key="k", bad=BadRows())
    assert isinstance(document.content, Pair)
    assert [message.role for message in document.content.prompt.messages] == ["system", "user"]


def test_texts_are_read_as_they_were_written(path: Path) -> None:
    files = written(path, recipe(emit={"format": "text"}))
    assert [document.text for document in read_files(files, "text", key="k")] == [row.fields["answer"] for row in ROWS]


def test_other_fields_and_how_a_row_was_made(path: Path) -> None:
    config = recipe(emit={"prompt": "answer", "answer": "questions.question"})  # an instruction that was written for a text
    row, _ = emit(ROWS, config)
    assert [message["content"] for message in row["messages"]] == [ROWS[0].fields["answer"], ROWS[0].prompt]
    assert (row["id"], row["metadata"]) == (
        "g0",
        {
            "seed": {"id": "q1", "content": "0123456789abcdef"},
            "draw": 0,
            "scores": {"s": 0.25},
            "finish": "stop",
            "tokens": {"prompt": 7, "generated": 5},
            "provenance": {"answer": {"teacher": "local"}},
        },
    )
