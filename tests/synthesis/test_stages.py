"""All stages together: what goes where, and what is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.config.synth_schema import SynthConfig
from harness.config.validate import to_section
from harness.synthesis.plan import Draft
from harness.synthesis.stages import make_data
from tests.synthesis.made import made_row

QUESTION = "how many miles does the old train travel from nine until noon every day"


def recipe(**keys: Any) -> SynthConfig:
    needed = {"seeds": {"q": {"path": "q.jsonl"}}, "teachers": {"t": {"model": "m"}}, "steps": {"answer": {"template": "x"}}}
    return to_section(SynthConfig, {**needed, **keys})


def test_each_stage_takes_its_rows_and_the_funnel_counts_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "eval.jsonl"
    path.write_text(json.dumps({"question": QUESTION}) + "\n")
    config = recipe(
        filters={"words": {"min": 2}},
        dedup={"jaccard": 0.9},
        decontaminate={"against": [str(path)]},
        select={"name": "best_of", "by": "s"},
    )
    rows = [
        made_row("a first answer to it", group="a", draw=0, s=1.0),
        made_row("short", group="a", draw=1, s=9.0),
        made_row("A first answer to it!", group="a", draw=2, s=8.0),
        made_row(f"well, {QUESTION}", group="a", draw=3, s=7.0),
        made_row("some quite other answer", group="a", draw=4, s=2.0),
        made_row("cut before it", group="b", draw=0),
    ]
    drafts = [*(Draft(row) for row in rows[:5]), Draft(rows[5], ("finish", "length"))]
    made = make_data(drafts, config)
    assert made.funnel == {"prompts": 2, "draws": 6, "parsed": 5, "filtered": 4, "different": 3, "clean": 2, "kept": 1}
    assert [(one.row, one.rule) for one in made.rejected] == [
        (rows[5], "finish"),
        (rows[1], "filters.words"),
        (rows[2], "dedup.jaccard"),
        (rows[3], "decontaminate.against"),
        (rows[0], "select.best_of"),
    ]
    assert made.selected == [rows[4]]
    assert [row["id"] for row in made.data] == ["a4"]


def test_every_draw_is_data_or_rejected_once() -> None:
    rows = [made_row(f"answer {draw % 5} and {draw % 3}", group=f"g{draw % 4}", draw=draw, s=float(draw % 7)) for draw in range(40)]
    config = recipe(
        filters={"characters": {"max": 14}},
        dedup={"jaccard": 1.0},
        select={"name": "pairs", "by": "s", "per_prompt": 2},
        emit={"format": "preference"},
    )
    made = make_data([Draft(row) for row in rows], config)
    used = [row.id for pair in made.selected for row in pair] + [one.row.id for one in made.rejected]
    assert sorted(used) == sorted(row.id for row in rows)
