"""The data card, and its figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.config.synth_schema import SynthConfig
from harness.config.validate import to_section
from harness.evaluation.text_statistics import distinct, self_bleu
from harness.synthesis.card import EXAMPLE_CHARACTERS, data_card, fenced
from harness.synthesis.card_figures import evenly, figures
from harness.synthesis.plan import Draft
from harness.synthesis.row import Row
from harness.synthesis.stages import Made, make_data
from tests.synthesis.made import made_row

TEXTS = ["the cat sat on the mat", "the cat sat on the rug", "a dog ran in the park", "one"]


def recipe(**keys: Any) -> SynthConfig:
    needed = {
        "seeds": {"questions": {"path": "/home/somebody/private/q.jsonl"}},
        "teachers": {"t": {"model": "/home/somebody/models/big", "endpoint": "http://node7.cluster:8000/v1"}},
        "steps": {"answer": {"template": "{{ questions.question }}"}},
    }
    return to_section(SynthConfig, {**needed, **keys})


def made_of(rows: list[Row], config: SynthConfig, *dropped: Row) -> Made:
    return make_data([*(Draft(row) for row in rows), *(Draft(row, ("finish", "length")) for row in dropped)], config)


def manifest(made: Made, config: SynthConfig) -> dict[str, Any]:
    return {
        "recipe": "stories",
        "version": "1.2",
        "seeds": {"questions": "0123456789abcdef0123"},
        "steps": {"answer": {"key": "a1", "teacher_hash": "b2", "model": config.teachers["t"].model, "licence": "mit"}},
        "funnel": made.funnel,
        "rejected": {"finish": 1},
        "tokens": {"prompt": 10, "generated": 20, "lost": 3},
        "figures": figures(made, config),
    }


def rows_of(texts: list[str], **scores: float) -> list[Row]:
    return [made_row(text, draw=draw, s=draw, **scores) for draw, text in enumerate(texts)]


def test_figures_by_counting() -> None:
    config = recipe()
    found = figures(made_of(rows_of(TEXTS), config), config)
    words = [text.split() for text in TEXTS]
    assert found["words"] == {"min": 1, "quartile_1": 4.75, "median": 6, "quartile_3": 6, "max": 6}
    assert found["diversity"]["texts"] == 4
    assert found["diversity"]["distinct_1"] == 12 / 19
    assert found["diversity"]["distinct_2"] == distinct(words, 2)
    assert found["diversity"]["self_bleu"] == sum(self_bleu(words)) / 4
    assert found["overlap"] == {}
    json.dumps(found, allow_nan=False)
    assert figures(made_of([], config), config) == {}
    assert figures(made_of(rows_of(["one two"]), config), config)["words"]["median"] == 2


def test_overlap_of_what_was_kept_and_of_what_was_dropped(tmp_path: Path) -> None:
    path = tmp_path / "eval.jsonl"
    path.write_text(
        json.dumps({"question": "one two three four five six seven eight nine ten eleven"}) + "\n" + json.dumps({"q": "x"}) + "\n"
    )
    config = recipe(decontaminate={"against": [str(path)], "ngram": 10})
    texts = ["one two three four five six seven eight", "two three four five six seven eight nine ten eleven", "one two three"]
    found = figures(made_of(rows_of(texts), config), config)
    assert found["overlap"] == {str(path): {"rows": 2, "dropped": 1, "kept_with_8_words": 1}}


def test_both_answers_of_a_pair_count() -> None:
    config = recipe(select={"name": "pairs", "by": "s"}, emit={"format": "preference"})
    found = figures(made_of(rows_of(TEXTS), config), config)
    assert found["diversity"]["texts"] == 2


def test_a_card_says_what_was_made_and_nothing_private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "somebody")
    config = recipe(emit={"licence": "cc-by-4.0"}, seed=7)
    made = made_of(rows_of(TEXTS), config, made_row("cut", draw=9))
    card = data_card(manifest(made, config), made, config)
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front) == {"license": "cc-by-4.0", "tags": ["synthetic"], "size_categories": ["n<1K"]}
    for said in (
        "# stories",
        "harness 1.2: 4 rows (messages)",
        "Licence: cc-by-4.0",
        "| answer | `a1` | `big` | `b2` | mit |",
        "| draws | 5 |",
        "| kept | 4 |",
        "| `finish` | 1 |",
        "Teachers read 10 tokens and wrote 20, 3 were lost with texts that were broken off, 8 for each row",
        "answer:\n\n```text\nthe cat sat on the mat\n```",
        "questions `0123456789abcdef`",
    ):
        assert said in body
    written = yaml.safe_load(body.rpartition("```yaml\n")[2].removesuffix("```\n"))
    assert written["seed"] == 7
    assert "filters" not in written  # as by default
    assert written["seeds"]["questions"]["path"] == "q.jsonl"
    for private in ("/home", "somebody", "node7", "8000"):
        assert private not in card
    assert "not told by whoever made it" in data_card(manifest(made, recipe()), made, recipe())


def test_pairs_and_texts_are_shown_as_they_are() -> None:
    config = recipe(select={"name": "pairs", "by": "s"}, emit={"format": "preference"})
    made = made_of(rows_of(TEXTS), config)
    card = data_card(manifest(made, config), made, config)
    assert "chosen:\n\n```text\none\n```" in card
    assert "rejected:\n\n```text\nthe cat sat on the mat\n```" in card
    config = recipe(emit={"format": "text"})
    made = made_of([], config)
    assert "0 rows (text)" in data_card(manifest(made, config), made, config)
    config = recipe(emit={"format": "text", "continues": True})
    made = made_of(rows_of(["two"]), config)
    assert (made.data[0]["text"], "text:\n\n```text\nSay it.two\n```" in data_card(manifest(made, config), made, config)) == (
        "Say it.two",
        True,
    )


def test_no_text_ends_its_fence_or_reaches_a_terminal() -> None:
    assert fenced("a ``` b\n````\nc") == "`````text\na ``` b\n````\nc\n`````\n"
    assert fenced("a\x1b[31m\tb") == "```text\na�[31m\tb\n```\n"
    assert fenced("x" * 1000) == f"```text\n{'x' * EXAMPLE_CHARACTERS} …\n```\n"


def test_examples_are_spread_over_all() -> None:
    assert evenly(range(10), 5) == [0, 2, 4, 6, 8]
    assert evenly([1, 2], 5) == [1, 2]
    assert evenly([], 5) == []
