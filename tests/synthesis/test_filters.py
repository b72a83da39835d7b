"""Which rows are dropped, by which rule, with which value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.config.synth_schema import FiltersConfig
from harness.config.validate import to_section
from harness.synthesis import text_measures
from harness.synthesis.filters import filter_rows
from harness.synthesis.text_measures import MEASURES
from tests.synthesis.made import made_row


def filters(**keys: Any) -> FiltersConfig:
    return to_section(FiltersConfig, keys)


TEXT = """- one thing, and
another thing here.

- one thing, and
more … 12 ##
"""
VALUES = {
    "characters": 16 + 19 + 16 + 12 + 5,
    "words": 15,
    "repetition": 1 / 12,  # the words of the first line
    "repeated_lines": 1 / 4,
    "word_length": 52 / 15,
    "letters": 42 / 52,
    "words_with_letters": 10 / 15,
    "symbols": 3 / 15,
    "ended_lines": 1 / 4,
    "bullet_lines": 2 / 4,
    "ellipsis_lines": 0.0,
}


@pytest.mark.parametrize("name", MEASURES)
def test_measures_by_counting(name: str) -> None:
    assert MEASURES[name](TEXT) == pytest.approx(VALUES[name], abs=1e-15)
    assert MEASURES[name]("") == 0


def test_measures_of_lines() -> None:
    assert text_measures.ended_lines('He said "go!"\nshe (too).\nand so on...\nand\n*done.*') == 4 / 5
    assert text_measures.ended_lines("終わり。\nक्या?\nنعم؟") == 1
    assert text_measures.ellipsis_lines("and so on...\nend …\nno") == 2 / 3
    assert text_measures.letters("हिन्दी") < 1  # vowel signs are marks
    assert text_measures.letters("абв") == 1


@pytest.mark.parametrize("name", MEASURES)
def test_a_bound_keeps_its_own_value(name: str) -> None:
    row, value = made_row(TEXT), MEASURES[name](TEXT)
    assert filter_rows([row], filters(**{name: {"min": value, "max": value}})) == ([row], [])
    for bounds in ({"min": value + 1e-9}, {"max": value - 1e-9}):
        kept, rejected = filter_rows([row], filters(**{name: bounds}))
        assert kept == []
        assert [(one.rule, one.value) for one in rejected] == [(f"filters.{name}", value)]


def test_a_row_that_goes_is_written_with_rule_and_value() -> None:
    row = made_row("a")
    _, (rejected,) = filter_rows([row], filters(words={"min": 2}))
    written = json.loads(json.dumps(rejected.to_json(), allow_nan=False))
    assert written == {"rule": "filters.words", "value": 1, **row.to_json()}


def test_bounds_on_tokens_and_scores() -> None:
    rows = [made_row("a", draw=draw, tokens=draw, likely=draw / 2) for draw in range(4)]
    kept, rejected = filter_rows(rows, filters(tokens={"min": 1}, scores={"likely": {"max": 1}}))
    assert kept == rows[1:3]
    assert [(one.rule, one.value) for one in rejected] == [("filters.tokens", 0), ("filters.scores.likely", 1.5)]


def test_a_score_that_is_no_number_is_outside() -> None:
    _, rejected = filter_rows([made_row("a", likely=float("nan"))], filters(scores={"likely": {"max": 1}}))
    assert [one.rule for one in rejected] == ["filters.scores.likely"]


def test_patterns() -> None:
    rows = [made_row("Answer: 4", draw=0), made_row("4", draw=1), made_row("Answer: as an AI", draw=2)]
    kept, rejected = filter_rows(rows, filters(matches=["^Answer:"], forbidden=["x{9}", r"\bAI\b"]))
    assert kept == rows[:1]
    assert [(one.rule, one.value) for one in rejected] == [("filters.matches.0", "^Answer:"), ("filters.forbidden.1", r"\bAI\b")]


@pytest.mark.parametrize("key", ["matches", "forbidden"])
def test_a_pattern_that_takes_for_ever_says_nothing_good(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.evaluation.verifiers.pattern.SECONDS", 0.02)
    _, rejected = filter_rows([made_row("a" * 40)], filters(**{key: ["(a|aa)+b"]}))
    assert [one.rule for one in rejected] == [f"filters.{key}.0"]


@pytest.mark.parametrize("key", ["matches", "forbidden"])
def test_a_pattern_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(InputError, match=rf"filters\.{key}\.1: '\(': no regular expression"):
        filter_rows([made_row("a")], filters(**{key: ["ok", "("]}))


def test_json_has_to_meet_the_schema(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}))
    rows = [made_row('{"a": 1}', draw=0), made_row('{"a": "1"}', draw=1), made_row("a", draw=2)]
    kept, rejected = filter_rows(rows, filters(schema_path=str(path)))
    assert kept == rows[:1]
    assert {one.rule for one in rejected} == {"filters.schema_path"}
    for content, problem in (("[]", "valid: a JSON schema"), ("{", "damaged")):
        path.write_text(content)
        with pytest.raises(InputError, match=problem):
            filter_rows(rows, filters(schema_path=str(path)))
    with pytest.raises(InputError, match=r"filters\.schema_path=.*none\.json: cannot be read"):
        filter_rows(rows, filters(schema_path=str(tmp_path / "none.json")))


def test_another_field_is_looked_at() -> None:
    row = made_row("short", prompt="a prompt of five words")
    assert filter_rows([row], filters(words={"min": 5}, field="questions.question")) == ([row], [])
    assert filter_rows([row], filters(words={"min": 5}))[0] == []
    assert filter_rows([row], filters(matches=[r'^\["one", "two"\]$'], field="questions.gold")) == ([row], [])


def test_bounds_are_keys_of_the_recipe() -> None:
    """Every measure has its key, and nothing else has bounds."""
    bounded = {name for name, value in vars(filters()).items() if type(value).__name__ == "BoundsConfig"}
    assert bounded == {*MEASURES, "tokens"}
