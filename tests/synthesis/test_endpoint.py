"""The client of OpenAI-compatible endpoints, against a server on loopback that fails in all ways."""

from __future__ import annotations

import email.utils
import gc
import json
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.config.schema import SamplingConfig
from harness.synthesis import endpoint as endpoint_module
from harness.synthesis.endpoint import Endpoint, EndpointDownError, address_of
from harness.synthesis.endpoint_messages import Answer, Failure, Request, body_of, read_answer, seed_of, served_by
from harness.synthesis.row import Tokens
from tests.synthesis.server import Body, Reply, completion, prompt_of, serving

KEY = "sk-very-secret-1234567890"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "FIRST_PAUSE_SECONDS", 0.01)


def ask(address: str, prompts: Sequence[str], **keys: Any) -> dict[str, Answer | Failure]:
    """By prompt."""
    return {found.id: found for found in asking(address, prompts, **keys)}


def asking(
    address: str,
    prompts: Sequence[str],
    *,
    chat: bool = True,
    requests: int = 4,
    attempts: int = 4,
    timeout: float = 5,
    key: str | None = None,
) -> Any:
    asked = Endpoint(
        address_of(address, chat=chat, key_env=key, timeout_seconds=timeout, config_key="teachers.big"),
        requests=requests,
        attempts=attempts,
    )

    def body(request: Request) -> Body:
        settings = served_by("openai", SamplingConfig()).settings
        seed = seed_of(0, request.id)
        return body_of(request, model="m", chat=chat, sampling=settings, seed=seed, max_tokens=9, stop=[], schema=None, extra={})

    def read(request: Request, content: bytes) -> Answer | Failure:
        return read_answer(request, content, chat=chat, max_tokens=9)

    return asked.complete([Request(prompt, prompt) for prompt in prompts], body, read)


def echo(body: Body) -> Reply:
    return completion(f"to {prompt_of(body)}")


def test_answers_with_tokens_and_who_served_them() -> None:
    with serving(echo) as server:
        found = ask(server.address, ["a", "b", "c"])
    assert found == {
        name: Answer(name, f"to {name}", "stop", Tokens(11, 3), {"model": "served", "fingerprint": "f1"}) for name in ("a", "b", "c")
    }
    assert set(server.paths) == {"/v1/chat/completions"}
    assert server.keys == [None] * 3


def test_every_field_is_said_and_each_request_has_its_own_seed() -> None:
    with serving(echo) as server:
        ask(server.address, [f"p{index}" for index in range(20)])
    by_prompt = {prompt_of(body): body for body in server.bodies}
    assert by_prompt["p3"] == {
        "model": "m",
        "messages": [{"role": "user", "content": "p3"}],
        "temperature": 1.0,
        "top_p": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": seed_of(0, "p3"),
        "max_tokens": 9,
        "n": 1,
        "stream": False,
    }
    seeds = {body["seed"] for body in server.bodies}
    assert len(seeds) == 20
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert seed_of(0, "p3") != seed_of(1, "p3")


def test_what_else_a_body_holds() -> None:
    request = Request("r", "the prompt", "be brief")
    common: dict[str, Any] = {"model": "m", "sampling": {"min_p": 0.1}, "seed": 5, "max_tokens": 9, "stop": ["\n"], "extra": {"user": "x"}}
    body = body_of(request, chat=True, schema={"type": "object"}, **common)
    assert body["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "the prompt"}]
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
    }
    assert (body["min_p"], body["stop"], body["user"]) == (0.1, ["\n"], "x")
    body = body_of(request, chat=False, schema=None, **common)
    assert body["prompt"] == "the prompt"
    assert not {"messages", "response_format"} & body.keys()


def test_texts_that_go_on() -> None:
    def reply(body: Body) -> Reply:
        document = {"choices": [{"text": " and on", "finish_reason": "length"}], "usage": {"prompt_tokens": 2, "completion_tokens": 9}}
        return Reply(content=json.dumps(document).encode())

    with serving(reply) as server:
        found = ask(server.address, ["on"], chat=False)
    assert found["on"] == Answer("on", " and on", "length", Tokens(2, 9), {})
    assert server.paths == ["/v1/completions"]


def test_no_more_requests_are_under_way_than_allowed() -> None:
    def reply(body: Body) -> Reply:
        answer = echo(body)
        answer.after_seconds = 0.02
        return answer

    with serving(reply) as server:
        found = ask(server.address, [str(index) for index in range(30)], requests=3)
    assert len(found) == 30
    assert server.most_under_way == 3


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 529])
def test_a_busy_server_is_asked_again_with_the_same_seed(code: int) -> None:
    def reply(body: Body) -> Reply:
        return echo(body) if server.tries(prompt_of(body)) == 3 else Reply(code, b"busy")

    with serving(reply) as server:
        found = ask(server.address, ["a", "b"])
    assert {name: answer.text for name, answer in found.items() if isinstance(answer, Answer)} == {"a": "to a", "b": "to b"}
    assert len(server.bodies) == 6
    assert len({json.dumps(body) for body in server.bodies}) == 2


def test_retry_after_is_waited_for_by_all() -> None:
    refused = threading.Event()

    def reply(body: Body) -> Reply:
        if not refused.is_set():
            refused.set()
            return Reply(429, b"{}", {"Retry-After": "0.4"})
        return echo(body)

    with serving(reply) as server:
        ask(server.address, [str(index) for index in range(6)], requests=1)
    assert server.times[1] - server.times[0] >= 0.4
    assert server.times[6] - server.times[1] < 0.4


@pytest.mark.parametrize(("value", "seconds"), [("7", 7), ("1.5", 1.5), ("soon", None), (None, None), ("-3", None)])
def test_retry_after_in_seconds(value: str | None, seconds: float | None) -> None:
    assert endpoint_module._retry_after(value) == seconds


def test_retry_after_as_a_date() -> None:
    found = endpoint_module._retry_after(email.utils.formatdate(time.time() + 100, usegmt=True))
    assert found is not None
    assert 90 < found <= 100
    assert endpoint_module._retry_after(email.utils.formatdate(time.time() - 100, usegmt=True)) == 0


def test_a_server_that_stays_busy_ends_it_with_one_message() -> None:
    with (
        serving(lambda body: Reply(503, b'{"error": {"message": "loading\\nmodel"}}')) as server,
        pytest.raises(EndpointDownError) as raised,
    ):
        ask(server.address, ["a"], attempts=3)
    url = f"{server.address}/chat/completions"
    assert str(raised.value) == f"teachers.big.endpoint={url}: no answer (HTTP 503: loading model; 3 of 3 attempts)"
    assert len(server.bodies) == 3


def test_a_slow_answer_is_given_up_and_asked_again() -> None:
    def reply(body: Body) -> Reply:
        answer = echo(body)
        answer.after_seconds = 0.0 if server.tries("a") == 2 else 1.0
        return answer

    with serving(reply) as server:
        found = ask(server.address, ["a"], timeout=0.3)
    assert isinstance(found["a"], Answer)
    assert found["a"].lost_attempts == 1
    assert len(server.bodies) == 2


def test_a_cut_answer_is_asked_again() -> None:
    def reply(body: Body) -> Reply:
        answer = echo(body)
        answer.length = len(answer.content) + (10 if server.tries("a") == 1 else 0)
        return answer

    with serving(reply) as server:
        found = ask(server.address, ["a"], timeout=0.5)
    assert isinstance(found["a"], Answer)
    assert found["a"].lost_attempts == 1
    assert len(server.bodies) == 2


def test_a_connection_that_breaks_is_made_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port, seen = listener.getsockname()[1], []

        def serve() -> None:
            for number in range(2):
                connection, _ = listener.accept()
                with connection:
                    seen.append(connection.recv(65536))
                    if number:
                        content = completion("there").content
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        found = ask(f"http://127.0.0.1:{port}/v1", ["a"], requests=1)
        thread.join()
    assert isinstance(found["a"], Answer)
    assert len(seen) == 2


@pytest.mark.parametrize("code", [400, 409, 413, 422])
def test_other_refusals_are_of_their_row(code: int) -> None:
    def reply(body: Body) -> Reply:
        return Reply(code, b'{"error": {"message": "too long", "code": 7}}') if prompt_of(body) == "b" else echo(body)

    with serving(reply) as server:
        found = ask(server.address, ["a", "b", "c"])
    assert found["b"] == Failure("b", f"HTTP {code}: too long")
    assert isinstance(found["a"], Answer)
    assert isinstance(found["c"], Answer)
    assert len(server.bodies) == 3


def test_the_first_ones_all_refused_are_no_rows_own_fault() -> None:
    def reply(body: Body) -> Reply:
        return Reply(422, b'{"detail": "min_p: extra"}') if int(prompt_of(body)) < first else echo(body)

    with serving(reply) as server:
        first = 100
        with pytest.raises(InputError, match=r"refuses all of the first 8 requests, the last with HTTP 422: .*min_p: extra"):
            ask(server.address, [str(index) for index in range(100)], requests=2)
        assert len(ask(server.address, ["0", "1"])) == 2
        first = 7
        found = ask(server.address, [str(index) for index in range(10)], requests=1)
        assert [isinstance(found[str(index)], Failure) for index in range(10)] == [True] * 7 + [False] * 3


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (401, "does not take the key (HTTP 401: no REMOVED here); valid: as teachers.big.key_env"),
        (403, "does not let this key in"),
        (404, "no such address or model (HTTP 404: no REMOVED here); valid: http://HOST:PORT/v1"),
        (402, "wants to be paid"),
    ],
)
def test_what_holds_of_all_requests_ends_them_at_once_without_the_key(code: int, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIG_KEY", KEY)
    reply = Reply(code, json.dumps({"error": {"message": f"no {KEY} here"}}).encode())
    with serving(lambda body: reply) as server, pytest.raises(InputError) as raised:
        ask(server.address, [str(index) for index in range(50)], key="BIG_KEY", requests=2)
    assert problem in str(raised.value)
    assert KEY not in repr(raised.value)
    assert len(server.bodies) <= 4
    assert set(server.keys) == {f"Bearer {KEY}"}


def test_the_key_goes_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIG_KEY", KEY)
    with serving(echo) as other, serving(lambda body: Reply(307, headers={"Location": other.address})) as server:
        with pytest.raises(InputError, match=f"it is at {other.address} now"):
            ask(server.address, ["a"], key="BIG_KEY")
        assert other.bodies == []
    assert KEY not in repr(address_of(server.address, chat=True, key_env="BIG_KEY", timeout_seconds=1, config_key="t"))


def test_nobody_there_ends_it_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(EndpointDownError, match=rf"teachers\.big\.endpoint=http://127.0.0.1:{port}/v1.*refused; 1 of 4 attempts"):
        ask(f"http://127.0.0.1:{port}/v1", ["a", "b"])


@pytest.mark.parametrize(
    ("endpoint", "problem"),
    [
        ("host:80/v1", "no address"),
        ("ftp://host/v1", "no address"),
        ("http://host:many/v1", "no address"),
        ("http:///v1", "no address"),
        ("http://[host/v1", "no address"),
        ("http://host/v1?key=1", "no address"),
        ("http://me:hidden@host/v1", "holds a user or a password"),
    ],
)
def test_addresses_that_are_none(endpoint: str, problem: str) -> None:
    with pytest.raises(InputError, match=rf"teachers\.big\.endpoint.*{problem}") as raised:
        address_of(endpoint, chat=True, key_env=None, timeout_seconds=1, config_key="teachers.big")
    assert "hidden" not in str(raised.value)


def test_keys_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, problem in (
        (None, "no such variable"),
        (" ", "no such variable"),
        ("a\nX-B: c", "no HTTP header"),
        ("ключ", "no HTTP header"),
    ):
        if value is not None:
            monkeypatch.setenv("BIG_KEY", value)
        with pytest.raises(InputError, match=rf"teachers\.big\.key_env=BIG_KEY: .*{problem}") as raised:
            address_of("http://host/v1", chat=True, key_env="BIG_KEY", timeout_seconds=1, config_key="teachers.big")
        assert value is None or value == " " or value not in str(raised.value)


@pytest.mark.parametrize(
    "content", [b"<html>Welcome</html>", b"[]", b'{"choices": []}', b'{"choices": [{"finish_reason": "stop"}]}', b"\xff"]
)
def test_what_is_no_answer_ends_it_where_nothing_was_answered(content: bytes) -> None:
    with serving(lambda body: Reply(content=content)) as server, pytest.raises(EndpointDownError, match="no answer"):
        ask(server.address, ["a"], requests=1)
    assert len(server.bodies) == 1


def test_a_text_that_was_cut_or_kept_back() -> None:
    replies = {
        "cut": completion("half a", finish="length"),
        "thought": completion(None, finish="length"),
        "kept": completion("x", finish="content_filter"),
        "none": completion(None),
        "half": completion("\ud83d"),
    }
    with serving(lambda body: replies[prompt_of(body)]) as server:
        found = ask(server.address, list(replies))
    served = {"model": "served", "fingerprint": "f1"}
    assert found == {
        "cut": Answer("cut", "half a", "length", Tokens(11, 3), served),
        "thought": Answer("thought", "", "length", Tokens(11, 3), served),
        "kept": Failure("kept", "no text: finish_reason 'content_filter'", Tokens(11, 3)),
        "none": Failure("none", "no text: finish_reason 'stop'", Tokens(11, 3)),
        "half": Failure("half", "a text with half a surrogate pair, which is not Unicode"),
    }


@pytest.mark.parametrize(
    "usage", [None, {}, {"prompt_tokens": -1, "completion_tokens": 2}, {"prompt_tokens": 1, "completion_tokens": "2"}, []]
)
def test_tokens_that_a_server_does_not_count_are_as_many_as_there_can_be(usage: Any) -> None:
    with serving(lambda body: completion("zwölf", usage=usage)) as server:
        found = ask(server.address, ["äb"])
    answer = found["äb"]
    assert isinstance(answer, Answer)
    assert answer.tokens == Tokens(3 + 256, 6 + 1)
    assert answer.served["counted"] is False


def test_closing_sends_nothing_more_and_waits_for_nobody() -> None:
    def reply(body: Body) -> Reply:
        answer = echo(body)
        answer.after_seconds = 0.0 if prompt_of(body) == "0" else 2.0
        return answer

    with serving(reply) as server:
        began = time.monotonic()
        found = asking(server.address, [str(index) for index in range(20)], requests=2)
        assert next(found).id == "0"
        found.close()
        assert time.monotonic() - began < 2
        del found
        gc.collect()
        # The answers to the requests under way come, and no other request takes their places.
        time.sleep(2.5)
        assert len(server.bodies) <= 3


def test_what_an_engine_is_told_and_what_it_cannot_do() -> None:
    sampling = SamplingConfig(name="min_p", min_p=0.1, temperature=0.7, repetition_penalty=1.1)
    assert [note.about for note in served_by("openai", sampling).notes if note.verdict == "not expressible"] == [
        "min_p",
        "repetition_penalty",
    ]
    assert served_by("openai", SamplingConfig(temperature=0.5, top_p=0.9)).notes == ()
    assert served_by("vllm", sampling).settings["min_p"] == 0.1
    told = served_by("llama_cpp", sampling).settings
    assert (told["min_p"], told["repeat_penalty"], told["repeat_last_n"], told["top_k"]) == (0.1, 1.1, 2**20, 0)


def test_threads_end() -> None:
    before = threading.active_count()
    with serving(echo) as server:
        ask(server.address, ["a"], requests=8)
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
