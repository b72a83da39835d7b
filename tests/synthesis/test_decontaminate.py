"""Rows that hold what models are evaluated on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config.errors import InputError
from harness.config.synth_schema import DecontaminateConfig
from harness.synthesis.decontaminate import decontaminate
from harness.synthesis.evaluation_texts import Place, evaluation_texts
from tests.synthesis.made import made_row

QUESTION = "A train leaves the station at nine and travels for three hours. How far does it go at 60 miles an hour?"
GOLD = "It goes 180 miles, since three times sixty is one hundred and eighty."


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def evaluation(tmp_path: Path) -> str:
    return write(
        tmp_path / "eval.jsonl",
        {"question": "What is this?", "gold": "4"},
        {"question": QUESTION, "golds": [{"text": GOLD}], "number": 180},
        {"question": "Seven times eight plus nine minus two is what"},
    )


def test_questions_and_golds_are_found_in_prompts_and_answers(evaluation: str) -> None:
    rows = [
        made_row("I do not know.", draw=0),
        made_row("I know: 'it goes 180 MILES since three times sixty - is one hundred and EIGHTY', I think.", draw=1),
        made_row("Hm.", draw=2, prompt="Tell me. a train leaves the station at nine and travels for three hours: how fast?"),
        made_row("A train leaves the station at nine and travels for two hours.", draw=3),  # 10 words of it
        made_row("What is this? 4", draw=4),
        made_row("Seven times eight plus nine minus two is WHAT, you ask?", draw=5),  # nine words, and they are all
    ]
    kept, rejected = decontaminate(rows, DecontaminateConfig(against=[evaluation]))
    assert kept == [rows[0], rows[3], rows[4]]
    assert [(one.row.draw, one.rule, one.value) for one in rejected] == [
        (draw, "decontaminate.against", {"against": evaluation, "where": f"{evaluation}, line {line}", "words": words})
        for draw, line, words in (
            (1, 2, "it goes 180 miles since three times sixty is one hundred and eighty"),
            (2, 2, "a train leaves the station at nine and travels for three hours how"),
            (5, 3, "seven times eight plus nine minus two is what"),
        )
    ]


def test_fewer_words_drop_more(evaluation: str) -> None:
    row = made_row("A train leaves the station at nine and travels for two hours.")
    assert decontaminate([row], DecontaminateConfig(against=[evaluation], ngram=11))[0] == [row]
    assert decontaminate([row], DecontaminateConfig(against=[evaluation], ngram=10))[0] == []


def test_what_a_seed_holds_counts(evaluation: str) -> None:
    row = made_row("A summary.")
    row = replace(row, fields={**row.fields, "documents": {"text": f"Before. {QUESTION}"}})
    assert decontaminate([row], DecontaminateConfig(against=[evaluation]))[0] == []


def test_nothing_is_read_without_files() -> None:
    rows = [made_row("a")]
    assert decontaminate(rows, DecontaminateConfig()) == (rows, [])


@pytest.mark.parametrize("ending", ["json", "csv", "parquet"])
def test_files_of_other_kinds(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"eval.{ending}"
    match ending:
        case "json":
            path.write_text(json.dumps([{"question": QUESTION}]))
        case "csv":
            path.write_text(f'id,question\n1,"{QUESTION}"\n')
        case _:
            pq.write_table(pa.table({"id": [1], "question": [QUESTION]}), path)
    assert decontaminate([made_row(QUESTION)], DecontaminateConfig(against=[str(path)]))[0] == []


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    cases = {
        "none.jsonl": r"decontaminate\.against=.*none.jsonl: no such file",
        "nothing": r"decontaminate\.against=.*nothing: no file there ends in",
        "splits": r"decontaminate\.against=.*splits test, train; name the files of one, or all with a glob",
        "saved": r"decontaminate\.against: .*splits train, test; name one, as in .*saved/train$",
        "https://127.0.0.1:9/x.jsonl": r"decontaminate\.against=https.*cannot be fetched",
        "eval.txt": "a text file holds no rows; valid: .jsonl",
        "empty.jsonl": "decontaminate.against: no row in .*empty.jsonl",
        "torn.jsonl": "torn.jsonl, line 1: not valid JSON",
    }
    (tmp_path / "eval.txt").write_text(QUESTION)
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "torn.jsonl").write_text('{"a": ')
    (tmp_path / "nothing").mkdir()
    (tmp_path / "splits").mkdir()
    for split in ("train", "test"):
        (tmp_path / f"splits/{split}.jsonl").write_text('{"a": "b"}\n')
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    for name, problem in cases.items():
        with pytest.raises(InputError, match=problem):
            decontaminate([], DecontaminateConfig(against=[name if "://" in name else str(tmp_path / name)]))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(1, 6)
)
def test_found_exactly_where_a_run_of_words_is_common(known: list[str], text: list[str], ngram: int) -> None:
    place = Place("eval", "line 1")
    found = evaluation_texts([(place, " ".join(known))], ngram).overlap(" ".join(text))
    runs = {tuple(known[start : start + ngram]) for start in range(len(known) - ngram + 1)}
    common = [run for start in range(len(text) - ngram + 1) if (run := tuple(text[start : start + ngram])) in runs]
    assert (found and found.words) == (" ".join(common[0]) if common else None)
