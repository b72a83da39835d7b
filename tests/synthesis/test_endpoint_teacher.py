"""harness synth with a teacher behind an endpoint, as a user calls it."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.synthesis import endpoint
from harness.synthesis.directory import SynthDirectory
from tests.support.command import Done, call_harness
from tests.synthesis.server import Body, Reply, Server, completion, prompt_of, serving

KEY = "sk-very-secret-1234567890"
Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_PAUSE_SECONDS", 0.01)


def echo(body: Body) -> Reply:
    return completion(f"{prompt_of(body)} {body['seed'] % 3}")


def served(recipe: Write, server: Server, name: str = "texts", **changes: Any) -> Path:
    keys = {"model": "big", "endpoint": server.address, **changes.pop("teacher", {})}
    return recipe(name, **{"teachers": {"teacher": keys}, "emit": "messages", **changes})


def synth(tmp_path: Path, *words: str | Path) -> Done:
    return call_harness("synth", *words, "--dir", "made", cwd=tmp_path)


def rows(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "made" / "dataset" / "data.jsonl").read_text().splitlines()]


def used(tmp_path: Path) -> int:
    return SynthDirectory(tmp_path / "made").ledger().used


def test_a_data_set_of_an_endpoint(recipe: Write, tmp_path: Path) -> None:
    with serving(echo) as server:
        done = synth(tmp_path, served(recipe, server), "--json")
        assert done.rc == 0, done
        again = synth(tmp_path, served(recipe, server), "--json", "--html", "page.html")
    found = json.loads(done.stdout)
    assert json.loads(again.stdout) == found
    assert len(server.bodies) == 16  # and none when it is done
    assert found["tokens"] == {"prompt": 16 * 11, "generated": 16 * 3, "lost": 0}
    assert (tmp_path / "page.html").read_text().count("<article") == 16
    card = (tmp_path / "made" / "dataset" / "README.md").read_text()
    assert "16 rows (messages)" in card
    made = rows(tmp_path)
    origin = made[0]["metadata"]["provenance"]["text"]
    assert f"| text | `{origin['step']}` | `big` | `{origin['teacher']}` | not told |" in card
    assert [row["messages"][0]["content"] for row in made[:3]] == ["the river", "the river", "the mill"]
    assert origin["served"] == {"model": "served", "fingerprint": "f1"}
    assert {body["model"] for body in server.bodies} == {"big"}
    assert len({body["seed"] for body in server.bodies}) == 16


@pytest.mark.slow
def test_two_workers_and_one_that_fails_on_the_way_make_the_same(recipe: Write, tmp_path: Path) -> None:
    def fragile(body: Body) -> Reply:
        return echo(body) if len(server.bodies) <= 7 else Reply(503, b"busy")

    with serving(echo) as server:
        assert synth(tmp_path, served(recipe, server)).rc == 0
        whole = (tmp_path / "made" / "dataset" / "data.jsonl").read_bytes()
    (tmp_path / "made").rename(tmp_path / "whole")
    with serving(fragile) as server:
        path = served(recipe, server, teacher={"requests": 1, "attempts": 2})
        done = synth(tmp_path, path)
        assert done.rc == 1, done
        assert "HTTP 503: busy; 2 of 2 attempts" in done.stderr
        assert "7 of 16 texts" in done.stderr
        assert not (tmp_path / "made" / "dataset").exists()
        server.reply = echo
        assert synth(tmp_path, path, "--workers", "2").rc == 0
        answered = [prompt_of(body) + str(body["seed"]) for body in server.bodies]
    assert (tmp_path / "made" / "dataset" / "data.jsonl").read_bytes() == whole
    assert len(set(answered)) == 16
    assert len(answered) == 16 + 2  # the one that was refused was asked twice more


def test_where_it_is_served_may_change(recipe: Write, tmp_path: Path) -> None:
    with serving(echo) as server:
        assert synth(tmp_path, served(recipe, server)).rc == 0
    with serving(echo) as other:
        assert synth(tmp_path, served(recipe, other)).rc == 0
        done = synth(tmp_path, served(recipe, other, teacher={"model": "small"}))
    assert done.rc == 2
    assert "teachers.teacher.model" in done.stderr
    assert other.bodies == []


def test_a_wrong_key_is_said_once_and_is_written_nowhere(recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIG_KEY", KEY)
    with serving(lambda body: Reply(401, f"no key {KEY}".encode())) as server:
        done = synth(tmp_path, served(recipe, server, teacher={"key_env": "BIG_KEY"}))
        server.reply = echo
        assert (done.rc, used(tmp_path)) == (2, 0)
        assert done.stderr.count("does not take the key") == 1
        assert synth(tmp_path, served(recipe, server, teacher={"key_env": "BIG_KEY"})).rc == 0
    assert KEY not in done.stderr
    assert all(KEY.encode() not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_rows_that_the_server_refuses_are_dropped_with_its_reason(recipe: Write, tmp_path: Path) -> None:
    def reply(body: Body) -> Reply:
        return Reply(400, b'{"error": "too long"}') if "mill" in prompt_of(body) else echo(body)

    with serving(reply) as server:
        assert synth(tmp_path, served(recipe, server)).rc == 0
    assert len(rows(tmp_path)) == 14
    rejected = [json.loads(line) for line in (tmp_path / "made" / "rejected.jsonl").read_text().splitlines()]
    assert [(row["rule"], row["value"]) for row in rejected] == [("refused", "HTTP 400: too long")] * 2


def test_the_budget_holds_before_anything_is_sent(recipe: Write, tmp_path: Path) -> None:
    with serving(echo) as server:
        path = served(recipe, server, budget={"tokens": 100})
        done = synth(tmp_path, path)
        assert done.rc == 1
        assert "budget.tokens=100: no room" in done.stderr
        assert server.bodies == []
        assert synth(tmp_path, path, "budget.tokens=20e3").rc == 0
    assert len(server.bodies) == 16


def test_a_judge_and_a_schema(recipe: Write, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')

    def reply(body: Body) -> Reply:
        if "response_format" in body:
            return completion(json.dumps({"said": body["seed"] % 5}))
        return completion(f"I give {json.loads(prompt_of(body).partition(':')[2])['said']}.")

    with serving(reply) as server:
        done = synth(
            tmp_path,
            served(
                recipe,
                server,
                steps={
                    "text": {"template": "{{ prompts.prompt }}", "draws": 4, "schema_path": str(schema)},
                    "grade": {"judge": "Grade this:{{ text }}", "system": "You are strict."},
                },
                select={"name": "best_of", "by": "grade"},
            ),
        )
        assert done.rc == 0, done
    made = rows(tmp_path)
    assert len(made) == 8
    assert all(json.loads(row["messages"][1]["content"])["said"] == row["metadata"]["scores"]["grade"] for row in made)
    asked = [body for body in server.bodies if "response_format" in body]
    assert len(asked) == 32
    assert asked[0]["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert {body["messages"][0]["content"] for body in server.bodies if "response_format" not in body} == {"You are strict."}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"steps__text__sampling": {"min_p": 0.1}}, "steps.text.sampling: min_p: OpenAI's protocol has no such sampler"),
        ({"teacher": {"extra_body": {"seed": 1}}}, "teachers.teacher.extra_body.seed=1: the recipe says it elsewhere"),
        ({"teacher": {"extra_body": {"top_p": 1}}}, "teachers.teacher.extra_body.top_p=1: the recipe says it elsewhere"),
        ({"teacher": {"key_env": "NO_SUCH_KEY"}}, "teachers.teacher.key_env=NO_SUCH_KEY: the environment has no such variable"),
        ({"teacher": {"endpoint": "host"}}, "teachers.teacher.endpoint=host: no address"),
        ({"teacher": {"engine": "tgi"}}, "teachers.teacher.engine"),
        ({"teacher": {"endpoint": None, "engine": "vllm"}}, "teachers.teacher.engine=vllm: has no effect without an endpoint"),
        ({"steps__text__schema_path": "none.json"}, "steps.text.schema_path=none.json: cannot be read"),
        ({"teacher": {"endpoint": None}, "steps__text__schema_path": "x.json"}, "only an endpoint keeps to a schema"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_begins(
    recipe: Write, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    with serving(echo) as server:
        done = synth(tmp_path, served(recipe, server, **changes))
    assert done.rc == 2
    assert problem in done.stderr
    assert server.bodies == []
    assert not (tmp_path / "made").exists()


def test_what_was_not_answered_in_time_counts(recipe: Write, tmp_path: Path) -> None:
    def reply(body: Body) -> Reply:
        answer = echo(body)
        answer.after_seconds = 2.0 if len(server.bodies) == 1 else 0.0
        return answer

    with serving(reply) as server:
        done = synth(tmp_path, served(recipe, server, teacher={"timeout_seconds": 1}), "--json")
    assert done.rc == 0, done
    assert len(server.bodies) == 17
    slow = len(prompt_of(server.bodies[0])) + 256 + 8
    assert json.loads(done.stdout)["tokens"] == {"prompt": 16 * 11, "generated": 16 * 3, "lost": slow}


def test_what_is_under_way_when_others_are_refused_counts(recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reply(body: Body) -> Reply:
        is_late = next(numbers) >= 8
        answer = echo(body) if is_late and writes else Reply(422, b"no")
        answer.after_seconds = 0.3 if is_late else 0.0
        return answer

    for writes, fate_seconds in ((True, 0.05), (True, 2.0), (False, 2.0)):
        monkeypatch.setattr(endpoint, "FATE_SECONDS", fate_seconds)
        numbers = itertools.count()
        with serving(reply) as server:
            done = synth(tmp_path, served(recipe, server, teacher={"requests": 16}, shard_rows=16))
        assert (done.rc, len(server.bodies), "refuses all of the first 8" in done.stderr) == (2, 16, True), done
        spent = SynthDirectory(tmp_path / "made").ledger()
        most = sum(len(prompt_of(body)) + 256 + 8 for body in server.bodies)
        assert (spent.used, spent.reserved) == (most if writes else 0, 0)
        shutil.rmtree(tmp_path / "made")


def test_a_seed_that_is_no_text(recipe: Write, tmp_path: Path) -> None:
    with serving(echo) as server:
        path = served(recipe, server)
        (tmp_path / "prompts.jsonl").write_text('{"prompt": "fine"}\n{"prompt": "half \\ud800"}\n')
        done = synth(tmp_path, path)
    assert done.rc == 2
    assert "prompts.jsonl, line 2: it holds half a surrogate pair" in done.stderr
    assert not (tmp_path / "made").exists()


def test_further_fields_and_an_engine_with_more_samplers(recipe: Write, tmp_path: Path) -> None:
    with serving(echo) as server:
        keys = {"engine": "vllm", "extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}
        assert synth(tmp_path, served(recipe, server, teacher=keys, steps__text__sampling={"min_p": 0.1})).rc == 0
    assert server.bodies[0]["chat_template_kwargs"] == {"enable_thinking": False}
    assert (server.bodies[0]["min_p"], server.bodies[0]["top_k"]) == (0.1, 0)


def test_nobody_there(recipe: Write, tmp_path: Path) -> None:
    with serving(echo) as server:
        pass
    for words in ((), ("--preview", "2")):
        done = synth(tmp_path, served(recipe, server), *words)
        assert done.rc == 1, done
        assert done.stderr.count("Connection refused; 1 of 6 attempts") == 1
        assert "Traceback" not in done.stderr
    assert used(tmp_path) == 0  # nothing was sent


@pytest.mark.slow
def test_what_no_worker_can_do_is_said_once(recipe: Write, tmp_path: Path) -> None:
    with serving(echo) as server:
        pass
    done = synth(tmp_path, served(recipe, server), "--workers", "2")
    assert (done.rc, done.stderr.count("Connection refused"), "0 of 16 texts are in made" in done.stderr) == (1, 1, True), done
