"""The page about a data set that was made."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from harness.config.synth_schema import SynthConfig
from harness.config.validate import to_section
from harness.report.data_page import ROWS, ROWS_OF_A_RULE, data_page
from harness.synthesis.card_figures import figures
from harness.synthesis.plan import Draft
from harness.synthesis.row import Row
from harness.synthesis.stages import make_data
from tests.synthesis.made import made_row

HOSTILE = '<script>alert("$x")</script>'


class Articles(HTMLParser):
    """Rows of a page, by what they went by, and the elements of the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.rules: list[str] = []
        self.texts: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "article":
            self.rules.append(str(dict(attrs)["data-rule"]))
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.texts:
            self.texts[-1] += data


def page(rows: list[Row], *dropped: Row, **keys: Any) -> tuple[str, Articles]:
    needed = {"seeds": {"q": {"path": "q.jsonl"}}, "teachers": {"t": {"model": "m"}}, "steps": {"answer": {"template": "x"}}}
    config = to_section(SynthConfig, {**needed, **keys})
    made = make_data([*(Draft(row) for row in rows), *(Draft(row, ("finish", "length")) for row in dropped)], config)
    manifest = {
        "recipe": HOSTILE,
        "version": "1.2",
        "steps": {"answer": {"teacher": HOSTILE}},
        "funnel": made.funnel,
        "tokens": {"prompt": 1000, "generated": 234, "lost": 6},
        "figures": figures(made, config),
        "rows": len(made.data),
    }
    content = data_page(manifest, made, config)
    found = Articles()
    found.feed(content)
    return content, found


def test_rows_with_why_they_went() -> None:
    content, found = page([made_row("a b c", draw=0, s=0.5)], made_row("cut", draw=1), filters={"words": {"min": 2}})
    assert found.rules == ["kept", "finish"]
    assert re.sub(r"\s+", " ", found.texts[0]).strip() == "q1, draw 0 · 12 tokens · s 0.5Say it.a b c"
    assert "finish: length" in found.texts[1]
    assert ">1,240<" in content  # tokens of teachers, 1,240 for the only row
    assert "width: 50.00%" in content
    assert "1,000 read · 234 written · 6 lost" in content


def test_both_answers_of_a_pair() -> None:
    rows = [made_row(f"answer {draw}", draw=draw, s=draw) for draw in range(3)]
    _, found = page(rows, select={"name": "pairs", "by": "s"}, emit={"format": "preference"})
    assert found.rules == ["kept", "select.pairs"]
    assert "chosenanswer 2rejectedanswer 0" in found.texts[0]


def test_texts_of_strangers_stay_text_and_nothing_is_fetched() -> None:
    content, found = page([made_row(HOSTILE, prompt=HOSTILE)], made_row(HOSTILE, draw=1))
    assert found.tags.count("script") == 1
    assert "<script>alert" not in content
    assert HOSTILE in found.texts[0]
    assert not re.search(r"https?://|url\(|@import|src=", content)


def test_of_many_rows_some_are_shown() -> None:
    rows = [made_row("a b", group=f"g{index}") for index in range(300)]
    short = [made_row("a", group=f"h{index}") for index in range(100)]
    content, found = page([*rows, *short], filters={"words": {"min": 2}})
    assert (found.rules.count("kept"), found.rules.count("filters.words")) == (ROWS, ROWS_OF_A_RULE)
    assert "240 of 400" in content


def test_nothing_was_kept() -> None:
    content, found = page([], made_row("cut"))
    assert found.rules == ["finish"]
    assert "Tokens a row" not in content
