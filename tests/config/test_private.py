"""What is taken out of a recipe, and what stays."""

from __future__ import annotations

from typing import Any

import pytest

from harness.config.introspect import keys
from harness.config.overrides import ValueOverride, hydra_text, parse
from harness.config.private import PATH_KEY, Scrub, is_owner_specific, paths_in, with_paths
from harness.config.schema import Config

SCRUB = Scrub(secrets=["s3cr3t-value"], words=["ottilie", "node17", "data"])


@pytest.mark.parametrize(
    ("path", "shareable"),
    [
        ("docs.jsonl", "docs.jsonl"),
        ("corpora/docs/*.jsonl", "corpora/docs/*.jsonl"),
        ("org/model", "org/model"),
        ("/home/x/corpora/docs.jsonl", "docs.jsonl"),
        ("/models/base/", "base"),
        ("~/models/base", "base"),
        ("../elsewhere/a.jsonl", "a.jsonl"),
        ("homes/ottilie/b.jsonl", "b.jsonl"),
        ("C:\\Users\\x\\c.jsonl", "c.jsonl"),
        ("s3://bucket/of/mine/d.parquet", "d.parquet"),
        ("study:cpt", "study:cpt"),
        ("study:/home/x/runs/cpt", "study:cpt"),
        ("run:../runs/docs", "run:docs"),
    ],
)
def test_private_paths_become_their_last_part(path: str, shareable: str) -> None:
    assert Scrub(words=["ottilie"]).leaf("data.sources.a.path", path) == shareable


def test_two_files_of_the_same_name_stay_two() -> None:
    scrub = Scrub()
    names = [scrub.path(path) for path in ("/a/model", "/b/model", "/a/model")]
    assert names == ["model", "2-model", "model"]


@pytest.mark.parametrize(
    ("text", "shareable"),
    [
        ("OSError: /scratch/ottilie/x.ckpt: no space", "OSError: x.ckpt: no space"),
        ("see https://user:pw@db.example/path for it", "see REMOVED for it"),
        ("ask someone@example.org or Ottilie", "ask REMOVED or REMOVED"),
        ("key 0123456789abcdef0123456789abcdef01234567 and hf_abcdefghijkl", "key REMOVED and REMOVED"),
        ("WANDB_API_KEY=abc, api_key: xyz; max_tokens=100", "WANDB_API_KEY=REMOVED, api_key: REMOVED; max_tokens=100"),
        ("val/domain/loss is nan after 3 tokens/s", "val/domain/loss is nan after 3 tokens/s"),
        ("it said s3cr3t-value", "it said REMOVED"),
        ("commit 0123456789abcdef0123456789abcdef01234567, harness 1.0", "commit 0123456789abcdef0123456789abcdef01234567, harness 1.0"),
    ],
)
def test_texts_lose_paths_addresses_names_and_secrets(text: str, shareable: str) -> None:
    assert SCRUB.text(text) == shareable


@pytest.mark.parametrize(
    ("key", "value", "shareable"),
    [
        ("adapter.init_text", "go to /home/x/corp-docs and see http://x.y/z", "go to corp-docs and see REMOVED"),
        ("adapter.init_text", "ask someone@example.org, password: abc", "ask REMOVED, password: REMOVED"),
        ("adapter.init_text", "Ottilie's words", "REMOVED's words"),
        ("adapter.init_text", "answer /think and/or ~/notes", "answer /think and/or notes"),
        ("adapter.init_text", "[INST] 1/2 of it [/INST]", "[INST] 1/2 of it [/INST]"),
        ("tokenizer.new_tokens", ["<|x|>", "s3cr3t-value"], ["<|x|>", "REMOVED"]),
        ("schedule.warmup", "1e5 tokens", "1e5 tokens"),
        ("data.sources.a.path", ["/home/x/a.jsonl", "b.jsonl", "~/c/*.csv"], ["a.jsonl", "b.jsonl", "*.csv"]),
        ("data.lm_eval.a.tasks", ["gsm8k", "/home/x/quiz.yaml"], ["gsm8k", "quiz.yaml"]),
        ("data.sources.a.revision", "0123456789abcdef0123456789abcdef01234567", "0123456789abcdef0123456789abcdef01234567"),
        (
            "data.sources.a.path",
            "hf://datasets/org/name@0123456789abcdef0123456789abcdef01234567",
            "hf://datasets/org/name@0123456789abcdef0123456789abcdef01234567",
        ),
    ],
)
def test_values_lose_what_is_private_in_a_text(key: str, value: Any, shareable: Any) -> None:
    assert SCRUB.leaf(key, value) == shareable


@pytest.mark.parametrize("name", ["DBPW", "DB_PASS", "MYSQL_PWD", "PASSPHRASE", "MY_TOKEN", "HF_KEY"])
def test_a_secret_is_known_by_its_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "correct-horse")
    monkeypatch.setenv("SOME_SERVICE", "postgresql://ann:battery-staple@db/x")
    scrub = Scrub.of_this_machine()
    assert scrub.leaf("adapter.init_text", "correct-horse battery-staple") == "REMOVED REMOVED"
    assert scrub.leaf("adapter.init_text", "correct-horse") == "REMOVED"


def test_a_commit_that_is_a_secret_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef0123456789abcdef01234567")
    scrub = Scrub.of_this_machine()
    assert scrub.leaf("data.sources.a.revision", "0123456789abcdef0123456789abcdef01234567") == "REMOVED"
    assert scrub.text("commit 0123456789abcdef0123456789abcdef01234567") == "commit REMOVED"


def test_kinds_and_numbers_are_never_touched() -> None:
    config: dict[str, Any] = {"schedule": {"name": "node17"}, "optim": {"lr": 0.1, "betas": [0.9, 0.95]}, "seed": 3}
    assert SCRUB.config(config) == config


def test_where_its_owner_works_is_left_out() -> None:
    config = {
        "tracking": {"entity": "ottilie"},
        "data": {"cache_dir": "/x", "packing": "concat"},
        "trainer": {"threads": 3, "max_steps": 4},
    }
    assert SCRUB.config(config) == {"data": {"packing": "concat"}, "trainer": {"max_steps": 4}}


def test_overrides_are_rewritten_only_where_they_must_be() -> None:
    given = ["schedule=wsd", "optim.lr=1e-3", "data.sources.a={path: /x/y.jsonl, replay: true}", "tracking.project=p", "seed=7"]
    found = SCRUB.overrides(parse(given, Config))
    assert found[0] == "schedule=wsd"
    assert found[1:] == ["optim.lr=1e-3", "data.sources.a.path='y.jsonl'", "data.sources.a.replay=true", "seed=7"]


@pytest.mark.parametrize(
    "value", [None, True, 3, 1e-5, "it's \\ so", ["a", None, 2], {"a": {"b": [1.5]}}, {"a.b": {"c d": {"(e)": {"$f": {}}}}}]
)
def test_values_come_back_from_the_grammar_of_overrides(value: Any) -> None:
    (parsed,) = parse([f"trainer.callbacks.x.y={hydra_text(value)}"], Config)
    assert isinstance(parsed, ValueOverride)
    assert parsed.value == value


def test_every_key_that_names_a_file_is_known_as_one() -> None:
    names = [
        key.replace("<name>", "x")
        for key, _ in keys(Config)
        if key.endswith((".path", "_dir", "_file", "teacher", "chat_template", ".tasks"))
    ]
    assert len(names) >= 7
    assert [name for name in names if not PATH_KEY.fullmatch(name) and not is_owner_specific(name)] == []


def test_what_ships_by_its_name_is_no_path() -> None:
    named = {"data": {"chat_template": "hermes_tools", "lm_eval": {"a": {"tasks": ["gsm8k", "quiz.yaml"]}}}, "model": {"path": None}}
    assert list(paths_in(named)) == [("data.lm_eval.a.tasks", "quiz.yaml")]
    moved = with_paths(named, lambda key, path: f"there/{path}")
    assert moved["data"] == {"chat_template": "hermes_tools", "lm_eval": {"a": {"tasks": ["gsm8k", "there/quiz.yaml"]}}}
    assert list(paths_in({"data": {"chat_template": "mine.jinja"}})) == [("data.chat_template", "mine.jinja")]
