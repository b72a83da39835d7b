from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.config.errors import InputError
from harness.data.chat.conversation import Conversation, Message, ToolCall
from harness.data.chat.formats import read_conversations

KEY = "data.sources.chat"
WEATHER = {"name": "weather", "description": "Today's.", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
TOOLS = ({"type": "function", "function": WEATHER},)
CALL = ToolCall("weather", {"city": "Ulm"})
TALK = (Message("user", "Hi"), Message("assistant", "Hello"))
TOOL_TALK = Conversation(
    (
        Message("system", "Be brief."),
        Message("user", "Rain?"),
        Message("assistant", "Let me see.", tool_calls=(CALL,)),
        Message("tool", '{"rain": true}'),
        Message("assistant", "Yes."),
    ),
    TOOLS,
)


def conversations(file: Path, chat_format: str = "auto") -> list[Conversation]:
    return [document.conversation for document in read_conversations([file], chat_format, key=KEY)]


def test_sharegpt(write_rows: Callable[..., Path]) -> None:
    turns = [
        {"from": "human", "value": "Rain?"},
        {"from": "gpt", "value": "Let me see."},
        {"from": "function_call", "value": json.dumps({"name": "weather", "arguments": {"city": "Ulm"}})},
        {"from": "observation", "value": '{"rain": true}'},
        {"from": "gpt", "value": "Yes."},
    ]
    tools = json.dumps([WEATHER])
    file = write_rows(
        {"conversations": turns, "system": "Be brief.", "tools": tools},
        {"conversations": [{"from": "system", "value": "Be brief."}, *turns], "tools": [WEATHER]},
        {
            "conversations": [{"from": "system", "value": ""}, {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
            "tools": "[]",
        },
    )
    assert conversations(file) == [TOOL_TALK, TOOL_TALK, Conversation(TALK)]


def test_a_call_by_itself_and_several_calls(write_rows: Callable[..., Path]) -> None:
    calls = json.dumps([{"name": "weather", "arguments": {"city": "Ulm"}}, {"name": "time", "arguments": "{}"}])
    turns = [("human", "Rain?"), ("function_call", calls), ("tool", "no"), ("tool", ""), ("gpt", "No.")]
    (found,) = conversations(write_rows({"conversations": [{"from": role, "value": value} for role, value in turns]}))
    assert found.messages[1] == Message("assistant", tool_calls=(CALL, ToolCall("time", {})))
    assert [message.role for message in found.messages] == ["user", "assistant", "tool", "tool", "assistant"]


def test_alpaca(write_rows: Callable[..., Path]) -> None:
    file = write_rows(
        {"instruction": "Hi", "input": "", "output": "Hello"},
        {"instruction": "Hi", "response": "Hello"},
        {"instruction": "Add.", "input": "1, 2", "output": "3", "system": "Be brief.", "history": [["Hi", "Hello"]]},
    )
    assert conversations(file) == [
        Conversation(TALK),
        Conversation(TALK),
        Conversation((Message("system", "Be brief."), *TALK, Message("user", "Add.\n\n1, 2"), Message("assistant", "3"))),
    ]


def test_messages(write_rows: Callable[..., Path]) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}}
    plain = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": '{"rain": true}'},
        {"role": "assistant", "content": "Yes."},
    ]
    parts = [
        {"role": "system", "content": [{"type": "text", "value": "Be brief."}]},
        {"role": "user", "content": [{"type": "text", "text": "Ra"}, {"type": "text", "text": "in?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Let me see."}, {"type": "tool_call", "value": json.dumps(call)}]},
        {"role": "tool", "content": [{"type": "text", "text": '{"rain": true}'}]},
        {"role": "assistant", "content": "Yes."},
    ]
    file = write_rows({"messages": plain, "tools": TOOLS}, {"conversations": parts, "tools": json.dumps([WEATHER])})
    assert conversations(file, "messages") == [TOOL_TALK, TOOL_TALK]


def test_reasoning_flags_and_spans(write_rows: Callable[..., Path]) -> None:
    file = write_rows(
        {
            "messages": [
                {"role": "user", "content": "Hi", "train_spans": [[0, 1]]},
                {"role": "assistant", "content": "Hello", "reasoning_content": "A greeting.", "weight": 0},
                {"role": "user", "content": "Bye"},
                {
                    "role": "assistant",
                    "content": [{"type": "reasoning", "value": "Over."}, {"type": "text", "value": "Bye"}],
                    "train": True,
                },
            ]
        }
    )
    assert conversations(file) == [
        Conversation(
            (
                Message("user", "Hi", train_spans=((0, 1),)),
                Message("assistant", "Hello", "A greeting.", train=False),
                Message("user", "Bye"),
                Message("assistant", "Bye", "Over.", train=True),
            )
        )
    ]


def test_prompt_and_completion(write_rows: Callable[..., Path]) -> None:
    file = write_rows(
        {"prompt": "Hi", "completion": "Hello"},
        {"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Hello"}]},
    )
    assert conversations(file) == [Conversation(TALK)] * 2


def test_parquet_fills_absent_fields_with_nulls(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi", "tool_calls": None}, {"role": "assistant", "content": "Hello", "tool_calls": None}]
    pq.write_table(pa.table({"messages": [turns], "instruction": pa.array([None], pa.string())}), tmp_path / "a.parquet")
    assert conversations(tmp_path / "a.parquet") == [Conversation(TALK)]


def test_each_file_has_a_format_of_its_own(write_rows: Callable[..., Path]) -> None:
    files = [
        write_rows({"instruction": "Hi", "output": "Hello"}, name="a.jsonl"),
        write_rows({"prompt": "Hi", "completion": "Hello"}, name="b.jsonl"),
    ]
    found = list(read_conversations(files, "auto", key=KEY))
    assert [document.conversation for document in found] == [Conversation(TALK)] * 2
    assert found[-1].position == sum(file.stat().st_size for file in files)


def turns(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": "x"} for role in roles]}


BAD = [
    (turns(), "no messages; valid: at least a user's and an assistant's"),
    (turns("assistant", "user"), "message 1 is by assistant, first; valid there: system or user"),
    (turns("user", "user", "assistant"), "message 2 is by user, after user; valid there: assistant"),
    (turns("user", "assistant", "assistant"), "message 3 is by assistant, after assistant; valid there: user"),
    (turns("user", "assistant", "tool", "assistant"), "message 3 is by tool, after assistant without a tool call; valid there: user"),
    (turns("user", "system", "assistant"), "message 2 is by system, after user; valid there: assistant"),
    (turns("user", "assistant", "user"), "the last message is by user; valid: assistant"),
    (turns("user", "asistant"), "messages[1].role is 'asistant'. Did you mean 'assistant'? Valid: system, user, assistant, tool"),
    ({"messages": "Hi"}, "messages is a string; valid: an array of messages"),
    ({"messages": ["Hi"]}, "messages[0] is a string; valid: an object"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content is a number; valid: a string, or an array of parts"),
    ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0].content[0].type is 'image'. Valid: text, reasoning"),
    ({"messages": [{"role": "user", "content": " "}]}, "message 1 (user) is empty; valid: content"),
    ({"messages": [{"role": "user", "content": "x", "train": 0.5}]}, "messages[0].train (or weight) is 0.5; valid: true, false, 1 or 0"),
    (
        {"messages": [{"role": "user", "content": "x", "train_spans": [[0, 2]]}]},
        "messages[0].train_spans holds [0, 2]; valid: [start, end)",
    ),
    ({"messages": [{"role": "user", "content": "xyz", "train_spans": [[1, 2], [0, 1]]}]}, "messages[0].train_spans holds [0, 1]"),
    (
        {"messages": [{"role": "user", "content": "x", "tool_calls": [{"name": "f"}]}]},
        "messages[0]: tool calls by user; valid: by assistant",
    ),
    ({"messages": [{"role": "assistant", "tool_calls": [{"arguments": {}}]}]}, "messages[0].tool_calls: a tool call without a name"),
    ({"messages": [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{"}]}]}, "arguments of f: not valid JSON"),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "[1]"}]}]},
        "arguments of f is an array; valid: an object",
    ),
    ({**turns("user", "assistant"), "tools": "{"}, "tools: not valid JSON"),
    ({**turns("user", "assistant"), "tools": {"name": "f"}}, "tools is an object; valid: an array of JSON schemas"),
    ({**turns("user", "assistant"), "tools": [{"type": "function"}]}, "tools[0]: no name; valid: {name, description, parameters}"),
    ({"conversations": [{"from": "humman", "value": "Hi"}]}, "conversations[0].from is 'humman'. Did you mean 'human'?"),
    ({"conversations": [{"from": "human", "value": None}]}, "conversations[0].value is null; valid: a string"),
    ({"instruction": "Hi", "input": ""}, "no field 'output' or 'response'; fields there: instruction, input"),
    ({"instruction": "Hi", "output": "x", "history": [["a"]]}, "history[0] is an array; valid: a pair [instruction, answer]"),
    ({"instruction": " ", "output": "x"}, "message 1 (user) is empty"),
    ({"prompt": "Hi", "completion": 1}, "completion is a number; valid: a string"),
    ({"text": "Hi"}, "no known format of conversations (fields there: text). Valid: messages; conversations (sharegpt);"),
]


@pytest.mark.parametrize(("row", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_a_broken_row_is_named_with_its_place(row: dict[str, Any], message: str, write_rows: Callable[..., Path]) -> None:
    file = write_rows(row)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        conversations(file)
    assert str(caught.value).startswith(f"{KEY}: {file}, line 1: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "chat_format", "message"),
    [
        ("a.jsonl", "", "auto", "no conversation in "),
        (
            "a.txt",
            "Hi",
            "auto",
            "a text file holds no conversations; valid: .jsonl, .jsonl.gz, .parquet, .arrow, or data.sources.chat.format=",
        ),
        (
            "a.jsonl",
            '{"prompt": "a", "completion": "b"}\n{"instruction": "a", "output": "b"}\n',
            "auto",
            "rows of several formats in one file",
        ),
        (
            "a.jsonl",
            '{"prompt": "a", "completion": "b"}\n',
            "messages",
            "line 1: no field 'messages'; fields there: prompt, completion",
        ),
        ("a.jsonl", '{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n', "auto", "line 2: no known format"),
        ("a.jsonl", '{"prompt": "a"\n', "auto", "line 1: not valid JSON"),
    ],
)
def test_files_without_conversations(tmp_path: Path, name: str, content: str, chat_format: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=re.escape(message)):
        conversations(tmp_path / name, chat_format)
