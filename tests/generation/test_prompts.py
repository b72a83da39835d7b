"""Rows to prompts: what the model reads, what it is called, and which rows are refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.config.schema import DataConfig
from harness.generation.prompts import PromptReader, PromptRow

Rows = Callable[..., Path]
CALL = {"from": "function_call", "value": '{"name": "search", "arguments": {"query": "tea"}}'}
TALK = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


def read(write_rows: Rows, tokenizer: Any, rows: Sequence[Any], *, chat: bool = False, **how: Any) -> list[PromptRow]:
    return list(PromptReader(DataConfig(), tokenizer, chat=chat).of_rows([write_rows(*rows)], key="data.x", **how))


@pytest.mark.parametrize(
    ("row", "chat", "how", "text"),
    [
        ({"prompt": "the fox"}, False, {}, "the fox"),
        ({"text": "no", "question": "the fox?"}, False, {}, "the fox?"),
        ({"text": "yes", "question": "the fox?"}, False, {"prompt": "text"}, "yes"),
        ({"instruction": "Add.", "input": "1 2"}, False, {}, "Add.\n\n1 2"),
        ({"question": "2+2?", "hint": "small"}, False, {"prompt": "Q: {question} ({hint})\nA:"}, "Q: 2+2? (small)\nA:"),
        ({"question": "2+2?"}, True, {}, "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"),
        ({"question": "2+2?"}, True, {"prompt": "{question}!"}, "<|im_start|>user\n2+2?!<|im_end|>\n<|im_start|>assistant\n"),
        ({"messages": TALK[:1]}, False, {}, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"),
        ({"prompt": TALK[:1]}, False, {}, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"),
    ],
)
def test_a_row_becomes_what_the_model_reads(write_rows: Rows, chat_tokenizer: Any, row: Any, chat: bool, how: Any, text: str) -> None:
    (found,) = read(write_rows, chat_tokenizer, [row], chat=chat, **how)
    assert found.prompt.text == text
    assert chat_tokenizer.decode(found.prompt.token_ids) == text
    assert found.answer is None


def test_a_conversation_is_a_prompt_up_to_the_turn_that_the_model_is_to_write(write_rows: Rows, chat_tokenizer: Any) -> None:
    rows = [
        {
            "conversations": [
                {"from": "human", "value": "tea?"},
                CALL,
                {"from": "observation", "value": "[]"},
                {"from": "gpt", "value": "no"},
            ]
        }
    ]
    (whole,) = read(write_rows, chat_tokenizer, [{"messages": TALK}])
    assert (whole.prompt.text, whole.answer and whole.answer.content) == (
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
        "hello",
    )
    (called,) = read(write_rows, chat_tokenizer, rows, to_call=True)
    assert called.prompt.text == "<|im_start|>user\ntea?<|im_end|>\n<|im_start|>assistant\n"
    assert called.answer is not None
    assert [(call.name, call.arguments) for call in called.answer.tool_calls] == [("search", {"query": "tea"})]


def test_ids_are_the_rows_own_or_hashes_of_what_is_read_whatever_the_order(write_rows: Rows, chat_tokenizer: Any) -> None:
    rows = [{"prompt": "a"}, {"prompt": "b"}, {"id": 7, "prompt": "a"}, {"id": "7", "prompt": "c"}, {"prompt": "a"}]
    ids = [found.prompt.id for found in read(write_rows, chat_tokenizer, rows)]
    assert ids[2:4] == ["7", "7#2"]
    assert ids[4] == f"{ids[0]}#2"
    assert [found.prompt.id for found in read(write_rows, chat_tokenizer, rows[1::-1])] == [ids[1], ids[0]]


def test_control_tokens_typed_in_a_prompt_stay_text(write_rows: Rows, chat_tokenizer: Any) -> None:
    end = chat_tokenizer.convert_tokens_to_ids("<|im_end|>")
    text, talk = read(write_rows, chat_tokenizer, [{"prompt": "a<|im_end|>"}, {"messages": [{"role": "user", "content": "a<|im_end|>"}]}])
    assert text.prompt.token_ids.count(end) == 0
    assert talk.prompt.token_ids.count(end) == 1


@pytest.mark.parametrize(
    ("row", "how", "said"),
    [
        ({"words": "x"}, {}, "no prompt; fields there: words; valid: messages, conversations, prompt"),
        ({"prompt": 3}, {}, "'prompt' is a number; valid: a text, or an array of messages"),
        ({"prompt": ""}, {}, "the prompt has no token"),
        ({"prompt": "x"}, {"prompt": "question"}, "no field 'question'; fields there: prompt"),
        ({"prompt": "x"}, {"prompt": "Q: {question}"}, "no field 'question'"),
        ({"messages": [{"role": "system", "content": "x"}]}, {}, "the last message is by system; valid of a prompt: user or tool"),
        ({"messages": []}, {}, "no messages; valid: at least a user's"),
    ],
)
def test_what_is_no_prompt_is_refused_with_its_place(write_rows: Rows, chat_tokenizer: Any, row: Any, how: Any, said: str) -> None:
    with pytest.raises(InputError, match=r"data\.x: .*chat\.jsonl, line 2: ") as refused:
        read(write_rows, chat_tokenizer, [{"prompt": "fine", "question": "fine"}, row], **how)
    assert said in str(refused.value)


def test_every_prompt_has_an_id_of_its_own(write_rows: Rows, chat_tokenizer: Any) -> None:
    for ids in (["a", "a", "a#2", "a"], ["a#2", "a", "a", "a#2"]):
        found = [one.prompt.id for one in read(write_rows, chat_tokenizer, [{"id": name, "prompt": "x"} for name in ids])]
        assert len(set(found)) == 4, found
