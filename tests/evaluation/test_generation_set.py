"""Sets of prompts: which are asked, what they cost, what is measured of what a model writes, and what is refused before it writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.config.schema import Config, DataConfig, GenerationConfig
from harness.config.state_key import state_values
from harness.data.tokenization import Documents, Tokenization
from harness.evaluation.generation_set import GenerationSet, build_generation_set
from harness.evaluation.kinds import KINDS, GenerationKind, logged_metrics, main_metrics, most_tokens
from harness.generation.rows import Generation, Limits, Prompt

WriteRows = Callable[..., Path]
SUMS = [{"id": f"sum-{a}", "question": f"{a} + 1 = ", "answer": f"#### {a + 1}"} for a in range(5)]


class Writer:
    """Writes from a table: of each prompt's id, its draws; `stopped` of them ended by themselves."""

    batch_tokens = 64

    def __init__(self, table: dict[str, list[str]]) -> None:
        self.table, self.asked = table, list[tuple[str, int, Limits]]()

    def write(self, prompts: Sequence[Prompt], *, draws: int, limits: Limits, advance: Callable[[int], None]) -> list[Generation]:
        self.asked += [(prompt.id, draws, limits) for prompt in prompts]
        advance(len(prompts) * draws)
        return [
            Generation(prompt.id, draw, text, tuple(map(hash, text.split())), "stop" if text.endswith(".") else "length")
            for prompt in prompts
            for draw, text in enumerate(self.table[prompt.id][:draws])
        ]


@pytest.fixture
def build(write_rows: WriteRows, chat_tokenizer: Any) -> Callable[..., GenerationSet]:
    def build(*rows: Any, data: DataConfig | None = None, documents: Documents = "texts", **config: Any) -> GenerationSet:
        settings = GenerationConfig(path=str(write_rows(*rows)), **config)
        return build_generation_set("sums", settings, Tokenization(data or DataConfig(), chat_tokenizer, documents=documents))

    return build


def measured(found: GenerationSet, table: dict[str, list[str]]) -> dict[str, float]:
    return found.measure(Writer(table), lambda _: None).values  # type: ignore[arg-type]


def test_right_texts_are_counted_by_prompt_and_by_k(build: Callable[..., GenerationSet]) -> None:
    found = build(*SUMS[:2], verifier="number", draws=4, pass_at=[1, 2, 4], max_new_tokens=8, stop=["\n"])
    writer = Writer({"sum-0": ["1.", "it is 1.", "2", "1"], "sum-1": ["2", "9.", "9", "9"]})
    done: list[int] = []
    whole = found.measure(writer, done.append)  # type: ignore[arg-type]
    values, texts = whole.values, whole.texts
    assert values["accuracy"] == 4 / 8
    # Three of four are right after one prompt, one after the other.
    assert [values[f"pass_at/{k}"] for k in (1, 2, 4)] == pytest.approx([1 / 2, (1 + 1 / 2) / 2, 1])
    assert [values[f"all_at/{k}"] for k in (1, 2, 4)] == pytest.approx([1 / 2, (1 / 2 + 0) / 2, 0])
    assert (values["stopped"], values["length"]) == (3 / 8, 10 / 8)
    assert sorted(writer.asked) == [(f"sum-{a}", 4, Limits(8, ("\n",))) for a in range(2)]
    assert sum(done) == found.size == 8
    shown = {(text.id, text.draw): (text.text, text.score, text.finish) for text in texts}
    assert shown["sum-0", 2] == ("2", 0.0, "length")
    assert {text.prompt for text in texts} == {"0 + 1 = ", "1 + 1 = "}
    assert {text.set for text in texts} == {"sums"}
    config = DataConfig(generation={"sums": found.config})
    assert sorted(values) == sorted(name.removeprefix("generation/sums/") for name in logged_metrics(config))


def test_without_a_verifier_texts_are_counted_alone(build: Callable[..., GenerationSet]) -> None:
    found = build(*SUMS[:1], draws=2)
    values = measured(found, {"sum-0": ["a b a b a b a b", "c d e f g h i j"]})
    assert values["repetition"] == pytest.approx((3 / 5 + 0) / 2)
    assert values["distinct_1"] == 10 / 16
    assert "accuracy" not in values
    assert sorted(values) == sorted(GenerationKind().logged("x", found.config, DataConfig()))
    texts = found.measure(Writer({"sum-0": ["a", "b"]}), lambda _: None).texts  # type: ignore[arg-type]
    assert [text.score for text in texts] == [None, None]


def test_texts_are_compared_with_those_after_the_same_prompt_where_there_are_any(build: Callable[..., GenerationSet]) -> None:
    same = {"sum-0": ["a b c d", "a b c d"], "sum-1": ["e f g h", "e f g h"]}
    several = measured(build(*SUMS[:2], draws=2), same)
    single = measured(build(*SUMS[:2]), same)
    assert (several["self_bleu"], several["distinct_1"]) == (1, 1 / 2)
    assert (single["self_bleu"], single["distinct_1"]) == (0, 1)


def test_what_differs_between_texts_is_counted_in_as_many_tokens_of_each(build: Callable[..., GenerationSet]) -> None:
    long, short = " ".join(f"w{i}" for i in range(64)), " ".join(f"v{i}" for i in range(64))
    found = build(*SUMS[:2])
    cut, whole = measured(found, {"sum-0": [long], "sum-1": [short]}), measured(found, {"sum-0": [f"{long} w0 w0 w0"], "sum-1": [short]})
    counted = ("distinct_1", "distinct_4", "ead", "self_bleu")
    assert [cut[name] for name in counted] == [whole[name] for name in counted]
    assert cut["length"] < whole["length"]


def test_accuracy_stands_for_a_set_with_a_verifier_and_repetition_for_another() -> None:
    configs = {"a": GenerationConfig(path="x", verifier="exact"), "b": GenerationConfig(path="x")}
    logged = logged_metrics(DataConfig(generation=configs))
    assert main_metrics(sorted(logged)) == ["generation/a/accuracy", "generation/b/repetition"]


def test_its_cost_is_known_before_and_bounded(build: Callable[..., GenerationSet]) -> None:
    found = build(*SUMS, draws=3, max_new_tokens=10)
    assert found.tokens_read == found.prompt_tokens + 5 * 3 * 10
    assert (found.size, found.limit) == (15, ("data.generation.sums.max_prompts", "5 prompts, 15 texts"))
    bounded = DataConfig(generation={"sums": found.config}, context_length=64)
    assert most_tokens(bounded) == 200 * (3 * 10 + 63) >= found.tokens_read
    bounded.max_evaluation_tokens = 100
    assert most_tokens(bounded) == 100
    cut = build(*SUMS, draws=3, max_new_tokens=10, data=DataConfig(max_evaluation_tokens=100))
    assert len(cut.prompts) == 2
    assert cut.tokens_read <= 100
    with pytest.raises(InputError, match=r"data\.max_evaluation_tokens=20: .*first prompt of data\.generation\.sums"):
        build(*SUMS, draws=3, max_new_tokens=10, data=DataConfig(max_evaluation_tokens=20))
    unbounded = GenerationConfig(path="x", max_prompts=None)
    assert most_tokens(DataConfig(generation={"sums": unbounded})) is None


def test_the_same_prompts_are_asked_whatever_the_order_of_the_rows(build: Callable[..., GenerationSet]) -> None:
    first, second = build(*SUMS, max_prompts=2, verifier="number"), build(*SUMS[::-1], max_prompts=2, verifier="number")
    assert [prompt.id for prompt in first.prompts] == [prompt.id for prompt in second.prompts]
    assert (len(first.prompts), first.fingerprint) == (2, second.fingerprint)


@pytest.mark.parametrize(
    "change", [{"draws": 2}, {"max_new_tokens": 7}, {"stop": ["."]}, {"verifier": "exact"}, {"prompt": "{question}?"}, {"max_prompts": 3}]
)
def test_its_fingerprint_tells_what_is_measured(build: Callable[..., GenerationSet], change: dict[str, Any]) -> None:
    assert build(*SUMS, **{"verifier": "number", **change}).fingerprint != build(*SUMS, verifier="number").fingerprint


def test_other_references_have_another_fingerprint(build: Callable[..., GenerationSet]) -> None:
    other = [{**row, "answer": "#### 0"} for row in SUMS]
    assert build(*other, verifier="number").fingerprint != build(*SUMS, verifier="number").fingerprint


def test_the_content_of_a_schema_tells_what_is_measured_not_its_place(build: Callable[..., GenerationSet], tmp_path: Path) -> None:
    def fingerprint(name: str, schema: dict[str, Any]) -> str:
        (tmp_path / name).write_text(json.dumps(schema))
        return build(*SUMS, verifier="json_schema", schema_path=str(tmp_path / name)).fingerprint

    first = fingerprint("a.json", {"type": "object"})
    assert first == fingerprint("b.json", {"type": "object"})
    assert first == build(*SUMS, verifier="json_schema", schema={"type": "object"}).fingerprint
    assert first != fingerprint("a.json", {"type": "array"})


def test_braces_of_a_prompt_are_text_where_doubled_and_the_reference_is_never_in_it(build: Callable[..., GenerationSet]) -> None:
    row = {"question": "1 + 1", "answer": "2"}
    found = build(row, verifier="number", prompt="{question} as \\boxed{{answer}}")
    assert found.prompts[0].text == "1 + 1 as \\boxed{answer}"
    for settings in ({}, {"reference": "answer"}):
        with pytest.raises(InputError, match=r"\.prompt=.*: holds the reference, \{answer\}; valid: \{\{answer\}\} where"):
            build(row, verifier="number", prompt="{question} as \\boxed{answer}", **settings)


def test_runs_that_write_at_other_evaluations_log_other_rows() -> None:
    """Runs of one state share what was logged for it."""
    states = [
        state_values(Config(data=DataConfig(generation={"x": GenerationConfig(path=path, every_evaluations=every)})))
        for path, every in (("a", 1), ("a", 2), ("b", 1))
    ]
    assert states[0] == states[2]
    assert states[0] != states[1]


CALL = {"from": "function_call", "value": '{"name": "search", "arguments": {"query": "tea"}}'}


@pytest.mark.parametrize(
    ("row", "config", "right", "wrong"),
    [
        ({"question": "?", "answers": ["Paris", "Lutetia"]}, {"verifier": "normalised"}, "lutetia!", "Rome"),
        ({"question": "?", "gold": "7"}, {"verifier": "number", "reference": "gold"}, "7.0", "8"),
        ({"question": "?", "pattern": "^a+$"}, {"verifier": "regex"}, "aaa", "ab"),
        ({"question": "?"}, {"verifier": "regex", "pattern": "b"}, "abc", "ac"),
        ({"question": "?", "schema": '{"type": "array"}'}, {"verifier": "json_schema"}, "[1]", "{}"),
        ({"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Yes."}]}, {"verifier": "exact"}, "Yes.", "No."),
        (
            {
                "conversations": [
                    {"from": "human", "value": "tea?"},
                    CALL,
                    {"from": "observation", "value": "[]"},
                    {"from": "gpt", "value": "no"},
                ]
            },
            {"verifier": "tool_call"},
            f"<tool_call>{CALL['value']}</tool_call>",
            "no",
        ),
        (
            {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Hi."}]},
            {"verifier": "tool_call"},
            "no",
            "<tool_call>",
        ),
    ],
)
def test_where_a_reference_stands(build: Callable[..., GenerationSet], row: Any, config: Any, right: str, wrong: str) -> None:
    found = build({"id": "a", **row}, **config)
    assert [measured(found, {"a": [text]})["accuracy"] for text in (right, wrong)] == [1, 0]


def test_text_is_what_a_user_says_where_the_objective_reads_conversations(build: Callable[..., GenerationSet]) -> None:
    texts = [build(SUMS[0], documents=documents, chat=chat).prompts[0].text for documents, chat in (("texts", None), ("texts", True))]
    texts += [
        build(SUMS[0], documents=documents, chat=chat).prompts[0].text
        for documents, chat in (("conversations", None), ("conversations", False))
    ]
    plain, said = "0 + 1 = ", "<|im_start|>user\n0 + 1 = <|im_end|>\n<|im_start|>assistant\n"
    assert texts == [plain, said, said, plain]


@pytest.mark.parametrize(
    ("rows", "config", "said"),
    [
        (
            [SUMS[0], {"question": "?"}],
            {"verifier": "number"},
            "line 2: no reference for data.generation.sums.verifier=number: none of the fields reference",
        ),
        (
            [{"question": "?", "answer": "1"}],
            {"verifier": "number", "reference": "gold"},
            "none of the fields gold (fields there: question, answer)",
        ),
        ([{"question": "?", "answer": "many"}], {"verifier": "number"}, "line 1: its reference is 'many', without a number"),
        ([{"question": "?", "answer": []}], {"verifier": "exact"}, "its reference is an empty array"),
        ([{"question": "word " * 600}], {}, "leaves no room to write in data.context_length=512"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_row(build: Callable[..., GenerationSet], rows: Any, config: Any, said: str) -> None:
    with pytest.raises(InputError, match=r"^data\.generation\.sums: .*chat\.jsonl, line \d: ") as refused:
        build(*rows, **config)
    assert said in str(refused.value)


def test_harness_data_shows_what_it_reads_and_may_write(build: Callable[..., GenerationSet]) -> None:
    found = build(*SUMS, draws=2, max_new_tokens=10)
    assert found.summary() == {"prompts": 5, "texts": 10, "prompt_tokens": found.prompt_tokens, "new_tokens": 100}
    assert json.dumps(found.summary())
    assert [kind.section for kind in KINDS] == ["validation", "multiple_choice", "generation", "lm_eval", "preference", "contrast"]


@pytest.mark.parametrize("chat", [False, True])
def test_an_instruction_stands_before_each_prompt_under_the_same_id(build: Callable[..., GenerationSet], chat: bool) -> None:
    """Texts of runs with it and without stand side by side."""
    rows = [{"prompt": f"say {word}"} for word in ("one", "two", "three", "four", "five")]
    given = {"chat": chat, "max_prompts": 3, "data": DataConfig(chat_template="chatml")}
    plain, asked = build(*rows, **given).prompts, build(*rows, instruction="Be glad. ", **given).prompts
    assert [prompt.id for prompt in asked] == [prompt.id for prompt in plain]
    for one, other in zip(plain, asked, strict=True):
        system = "<|im_start|>system\nBe glad. <|im_end|>\n" if chat else "Be glad. "
        assert other.text == system + one.text
        assert len(other.token_ids) > len(one.token_ids)


def test_other_prompts_are_none_of_the_first(build: Callable[..., GenerationSet]) -> None:
    blocks = [{prompt.id for prompt in build(*SUMS, max_prompts=2, skip_prompts=skip).prompts} for skip in (0, 2, 4)]
    assert [len(block) for block in blocks] == [2, 2, 1]
    assert set.union(*blocks) == {row["id"] for row in SUMS}
    with pytest.raises(InputError, match=r"data\.generation\.sums\.skip_prompts=5: there are 5 prompts"):
        build(*SUMS, max_prompts=2, skip_prompts=5)
