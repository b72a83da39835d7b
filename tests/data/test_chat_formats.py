from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.config.errors import InputError
from harness.data.chat.conversation import Conversation, Message, ToolCall, with_ids
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
    calling, answering = replace(TOOL_TALK.messages[2], tool_calls=(replace(CALL, id="1"),)), TOOL_TALK.messages[3]
    identified = [
        replace(TOOL_TALK, messages=(*TOOL_TALK.messages[:2], calling, answer, TOOL_TALK.messages[4]))
        for answer in (replace(answering, tool_call_id="1"), answering)
    ]
    assert conversations(file, "messages") == identified


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
    ({"conversations": [{"from": "human", "value": None}]}, "message 1 (user) is empty; valid: content"),
    ({"instruction": "Hi", "input": ""}, "no field 'output' or 'response'; fields there: instruction, input"),
    ({"instruction": "Hi", "output": "x", "history": [["a"]]}, "history[0] is an array; valid: a pair [instruction, answer]"),
    ({"instruction": "Hi", "output": "x", "history": 1e308}, "history is a number; valid: an array of pairs [instruction, answer]"),
    ({"instruction": " ", "output": "x"}, "message 1 (user) is empty"),
    ({"prompt": "Hi", "completion": 1}, "completion is a number; valid: a string"),
    ({"text": "Hi"}, "no known format of conversations (fields there: text). Valid: messages; conversations (sharegpt);"),
]


HELLO = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
BRIEF = Conversation((Message("system", "Be brief."), *TALK))


@pytest.mark.parametrize(
    ("row", "conversation"),
    [
        ({"messages": HELLO, "system": "Be brief."}, BRIEF),
        ({"conversations": HELLO, "system_prompt": "Be brief."}, BRIEF),
        ({"prompt": "Hi", "completion": "Hello", "system": "Be brief."}, BRIEF),
        ({"instruction": "Hi", "output": "Hello", "system_prompt": "Be brief."}, BRIEF),
        ({"messages": [{"role": "developer", "content": "Be brief."}, *HELLO], "system": "Be brief."}, BRIEF),
        ({"messages": json.dumps(HELLO)}, Conversation(TALK)),
        ({"messages": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, Conversation(TALK)),
        ({"conversations": [{"role": "user", "value": "Hi"}, {"from": "gpt", "content": "Hello"}]}, Conversation(TALK)),
        ({"messages": HELLO, "functions": [WEATHER]}, Conversation(TALK, TOOLS)),
        (
            {"messages": [{"role": "user", "content": "Hi", "name": "Ann"}, HELLO[1]]},
            Conversation((Message("user", "Hi", name="Ann"), TALK[1])),
        ),
    ],
    ids=str,
)
def test_what_stands_beside_the_messages_is_taken(row: dict[str, Any], conversation: Conversation, write_rows: Callable[..., Path]) -> None:
    assert conversations(write_rows(row)) == [conversation]


@pytest.mark.parametrize(
    "turns",
    [
        [{"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": '{"city": "Ulm"}'}}],
        [{"role": "assistant", "content": "", "tool_calls": [{"name": "weather", "parameters": {"city": "Ulm"}}]}],
        [{"from": "function_call", "value": '{"name": "weather", "parameters": {"city": "Ulm"}}'}],
    ],
)
def test_calls_in_other_spellings(turns: list[dict[str, Any]], write_rows: Callable[..., Path]) -> None:
    answer = {"role": "function", "name": "weather", "content": "no"}
    (found,) = conversations(write_rows({"messages": [HELLO[0], *turns, answer, HELLO[1]]}))
    assert found.messages[1:3] == (Message("assistant", tool_calls=(CALL,)), Message("tool", "no", name="weather"))


def test_a_turn_for_each_call_is_one_turn(write_rows: Callable[..., Path]) -> None:
    calls = [{"role": "assistant", "tool_calls": [{"id": name, "function": {"name": name, "arguments": {}}}]} for name in ("a", "b")]
    answers = [{"role": "tool", "tool_call_id": name, "content": name} for name in ("b", "a")]
    (found,) = conversations(
        write_rows({"messages": [HELLO[0], {"role": "assistant", "content": "Let me see."}, *calls, *answers, HELLO[1]]})
    )
    assert found.messages[1] == Message("assistant", "Let me see.", tool_calls=(ToolCall("a", {}, "a"), ToolCall("b", {}, "b")))
    assert [message.tool_call_id for message in found.messages[2:4]] == ["b", "a"]


def test_ids_that_the_data_lack_are_made() -> None:
    calls = (CALL, ToolCall("time", {}))
    answers = (Message("tool", "no"), Message("tool", "noon"))
    _, called, *answered = with_ids((TALK[0], Message("assistant", tool_calls=calls), *answers))
    ids = [call.id for call in called.tool_calls]
    assert len(set(ids)) == 2
    assert all(made is not None and re.fullmatch("[0-9a-z]{9}", made) for made in ids)
    assert [(answer.tool_call_id, answer.name) for answer in answered] == [(ids[0], "weather"), (ids[1], "time")]
    # Those that only the answers have are the calls'.
    _, called, *answered = with_ids(
        (TALK[0], Message("assistant", tool_calls=calls), *(replace(a, tool_call_id=a.content) for a in answers))
    )
    assert [call.id for call in called.tool_calls] == ["no", "noon"]


def test_nulls_that_arrow_made_are_no_arguments(tmp_path: Path, write_rows: Callable[..., Path]) -> None:
    """In a struct all rows have all fields."""
    rows = []
    for name, arguments in (("weather", {"city": "Ulm"}), ("time", {"zone": {"hours": 1}, "at": [{"x": 1}, {"y": 2}]})):
        call = {"type": "function", "function": {"name": name, "arguments": arguments}}
        tool = {"name": name, "parameters": {"properties": {key: {"type": "string"} for key in arguments}}}
        messages = [HELLO[0], {"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "no"}, HELLO[1]]
        rows.append({"messages": messages, "tools": [tool]})
    expected = conversations(write_rows(*rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    with pa.ipc.new_stream(tmp_path / "a.arrow", pa.Table.from_pylist(rows).schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows))
    assert conversations(tmp_path / "a.parquet") == conversations(tmp_path / "a.arrow") == expected


def test_nulls_of_json_stay(write_rows: Callable[..., Path]) -> None:
    call = {"name": "weather", "arguments": {"city": None}}
    (found,) = conversations(write_rows({"messages": [HELLO[0], {"role": "assistant", "tool_calls": [call]}]}))
    assert found.messages[1].tool_calls == (ToolCall("weather", {"city": None}),)


def test_fields_that_are_not_read_are_named_once(write_rows: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"messages": [{**turn, "mood": "fine"} for turn in HELLO], "id": 1, "reward": 0.5}] * 3
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for file, found in ((write_rows(*rows), "line 1: mood, reward"), (tmp_path / "a.parquet", "row 1: mood, reward")):
        caplog.clear()
        assert conversations(file) == [Conversation(TALK)] * 3
        assert [record.getMessage() for record in caplog.records] == [f"{KEY}: fields that are not read, first in {file}, {found}"]


MORE_BAD = [
    ({"messages": [{"role": "system", "content": "Be long."}, *HELLO], "system": "Be brief."}, "a system message beside the one among"),
    ({"messages": HELLO, "conversations": HELLO[:1]}, "both messages and conversations; valid: one of them"),
    ({"messages": HELLO, "tools": [WEATHER], "functions": [WEATHER]}, "both tools and functions; valid: one of them"),
    ({"messages": [{**HELLO[0], "value": "Ho"}, HELLO[1]]}, "messages[0] has both content and value; valid: one of them"),
    ({"instruction": "Hi", "output": "Hello", "response": "Ho"}, "both output and response; valid: one of them"),
    (
        {"messages": [HELLO[0], {"role": "assistant", "tool_calls": [{"name": "f", "args": {"x": 1}}]}]},
        "messages[1].tool_calls: the call of f has args; valid: name, arguments (or parameters), id",
    ),
    (
        {"messages": [HELLO[0], {**HELLO[1], "train": True}, {"role": "assistant", "train": False, "tool_calls": [{"name": "f"}]}]},
        "messages[2]: tool calls whose train (or weight) is not that of the turn before",
    ),
]
BAD += MORE_BAD


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
            "a text file holds no conversations; valid: .jsonl, .ndjson, .json, .csv (each also with .gz or .zst), .parquet, .arrow, "
            "or data.sources.chat.format=text",
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
