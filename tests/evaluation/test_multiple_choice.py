"""Multiple-choice sets: every format, what belongs to a choice, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import processors

from harness.config.errors import InputError
from harness.config.schema import DataConfig, MultipleChoiceConfig
from harness.data.labels import IGNORED
from harness.evaluation.choice_formats import Question, read_questions
from harness.evaluation.multiple_choice import MultipleChoiceSet
from tests.support.datasets import evaluation_sets

KEY = "data.multiple_choice.quiz"
COLOURS = ("red", "blue")
ROWS = {
    "llm-foundry": {"query": "Question: Which?", "choices": [*COLOURS], "gold": 1},
    "mmlu": {"question": "Question: Which?", "choices": [*COLOURS], "answer": 1, "subject": "art"},
    "letter": {"question": "Question: Which?", "choices": [*COLOURS], "answer": "B"},
    "text": {"context": "Question: Which?\n", "choices": [*COLOURS], "label": "blue"},
    "arc": {"question": "Question: Which?", "choices": {"text": [*COLOURS], "label": ["1", "2"]}, "answerKey": "2"},
    "piqa": {"goal": "Question: Which?", "sol1": "red", "sol2": "blue", "label": 1},
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_every_format_gives_the_same_question(write_rows: Callable[..., Path], row: dict[str, Any]) -> None:
    assert list(read_questions([write_rows(row)], "auto", key=KEY)) == [Question("Question: Which?", COLOURS, 1, "\nAnswer: ")]


def test_hellaswag_goes_on_with_the_sentence(write_rows: Callable[..., Path]) -> None:
    path = write_rows({"ctx": "The sky is", "endings": ["red.", "blue."], "label": "1"})
    assert list(read_questions([path], "auto", key=KEY)) == [Question("The sky is", ("red.", "blue."), 1, " ")]


def test_parquet_as_the_hub_has_it(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([ROWS["arc"]]), tmp_path / "arc.parquet")
    assert [question.answer for question in read_questions([tmp_path / "arc.parquet"], "auto", key=KEY)] == [1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"text": "a story"},
            "line 1: no multiple-choice question (data.multiple_choice.quiz.format=auto); fields there: text; valid: query,",
        ),
        ({"query": "Which?", "choices": ["red"], "gold": 0}, "line 1: 1 choices; valid: at least two"),
        (
            {"query": "Which?", "choices": ["red", " "], "gold": 0},
            "the choices are an array; valid: an array of strings, none of them empty",
        ),
        (
            {"query": "Which?", "choices": [*COLOURS], "gold": 2},
            "the answer is 2; valid for these 2 choices: an index from 0 to 1, a letter",
        ),
        ({"query": "Which?", "choices": [*COLOURS], "gold": -1}, "the answer is -1; valid"),
        ({"query": "Which?", "choices": [*COLOURS], "gold": None}, "the answer is None; valid"),
        ({"query": "Which?", "choices": [*COLOURS]}, "none of the fields gold, answer, label; fields there: query, choices"),
        ({"goal": "Go", "sol1": "left", "sol2": "right"}, "no field 'label'"),
        ({**ROWS["arc"], "answerKey": "C"}, "'answerKey' is 'C', none of the choices' labels: 1, 2"),
        ({"query": 3, "choices": [*COLOURS], "gold": 0}, "the question is a number, not a string"),
    ],
)
def test_rows_that_are_no_question(write_rows: Callable[..., Path], row: dict[str, Any], message: str) -> None:
    path = write_rows(row)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        list(read_questions([path], "auto", key=KEY))
    assert str(caught.value).startswith(f"{KEY}: {path}")


def build(path: Path, tokenizer: Any, *, context_length: int = 64, cap: int | None = None, **options: Any) -> MultipleChoiceSet:
    data = DataConfig(
        multiple_choice={"quiz": MultipleChoiceConfig(path=str(path), **options)},
        context_length=context_length,
        max_evaluation_tokens=cap,
    )
    found = evaluation_sets(data, tokenizer)["quiz"]
    assert isinstance(found, MultipleChoiceSet)
    return found


QUIZ = [
    {"query": "the quick brown fox jumps over", "choices": ["the lazy dog", "rain", "green hills and rain"], "gold": 0},
    {"query": "rain falls on", "choices": ["fox", "green hills"], "gold": 1},
]


def scored_texts(quiz: MultipleChoiceSet, tokenizer: Any, batch_tokens: int) -> dict[int, str]:
    found = {}
    for choices, inputs, labels in quiz.texts.batches(batch_tokens):
        assert inputs.size <= batch_tokens or len(inputs) == 1
        for choice, row, label in zip(choices.tolist(), inputs, labels, strict=True):
            scored = label != IGNORED
            followed = scored[:-1] & scored[1:]  # the last prediction of all has no input after it
            assert (row[1:][followed] == label[:-1][followed]).all()
            found[choice] = tokenizer.backend_tokenizer.decode(label[scored].tolist(), skip_special_tokens=False)
    return found


@pytest.mark.parametrize("batch_tokens", [1, 40, 1000])
@pytest.mark.parametrize("ends", [False, True])
def test_what_is_scored_is_the_choice_with_its_space(
    write_rows: Callable[..., Path], tokenizer: Any, batch_tokens: int, ends: bool
) -> None:
    if ends:  # nor what the tokenizer adds around a text
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<|endoftext|> $A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
        )
    quiz = build(write_rows(*QUIZ), tokenizer)
    texts = scored_texts(quiz, tokenizer, batch_tokens)
    choices = {text.strip() for text in texts.values()}
    assert sorted(texts) == list(range(5))
    assert choices == {choice for row in QUIZ for choice in row["choices"]}  # type: ignore[attr-defined]
    assert all(text.startswith(" ") for text in texts.values())
    assert [texts[answer].strip() for answer in quiz.answers.tolist()] in (["the lazy dog", "green hills"], ["green hills", "the lazy dog"])
    assert [quiz.choice_bytes[index] for index in range(5)] == [len(texts[index].strip()) for index in range(5)]


def test_a_token_across_the_boundary_is_scored(write_rows: Callable[..., Path], tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.add_tokens(["XY"])
    quiz = build(write_rows({"query": "fox X", "choices": ["Y", "Z"], "gold": 0}), tokenizer, delimiter="")
    assert scored_texts(quiz, tokenizer, 100) == {0: "XY", 1: "Z"}


def test_long_questions_lose_their_beginning(write_rows: Callable[..., Path], tokenizer: Any) -> None:
    whole, cut = (build(write_rows(*QUIZ), tokenizer, context_length=length) for length in (64, 20))
    assert (whole.truncated, cut.lengths.max()) == (0, 21)
    assert 0 < cut.truncated < 5
    assert scored_texts(cut, tokenizer, 100) == scored_texts(whole, tokenizer, 100)


def test_a_question_whose_choice_alone_is_too_long_is_left_out(write_rows: Callable[..., Path], tokenizer: Any) -> None:
    long = {"query": "rain falls on", "choices": ["a fox", " ".join(["green hills"] * 20)], "gold": 0}
    quiz = build(write_rows(*QUIZ, long), tokenizer, context_length=20)
    assert (quiz.questions, quiz.left_out) == (2, 1)
    with pytest.raises(InputError, match=r"quiz: none of its 1 questions has only choices of 1 to data\.context_length=20 tokens"):
        build(write_rows(long), tokenizer, context_length=20)


def test_which_questions_are_asked_does_not_depend_on_their_order(write_rows: Callable[..., Path], tokenizer: Any) -> None:
    forth, back = (build(write_rows(*rows, name=name), tokenizer) for rows, name in ((QUIZ, "a.jsonl"), (QUIZ[::-1], "b.jsonl")))
    assert forth.fingerprint == back.fingerprint
    one = build(write_rows(*QUIZ), tokenizer, max_questions=1)
    assert one.questions == 1
    assert np.array_equal(one.tokens, forth.tokens[: len(one.tokens)])
    capped = build(write_rows(*QUIZ), tokenizer, cap=len(one.tokens))
    assert capped.fingerprint == one.fingerprint
    with pytest.raises(InputError, match=r"data\.max_evaluation_tokens=3: less than the \d+ tokens of the first question"):
        build(write_rows(*QUIZ), tokenizer, cap=3)
