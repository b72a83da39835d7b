"""harness steer: what it writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from tests.cli.test_bad_input import refused
from tests.support import corpus
from tests.support.command import Done, call_harness
from tests.support.corpus import TinyText
from tests.support.endless import without_end_token

PAIRS = [{"prompt": f"{n} {word}", "positive": " river runs", "negative": " append key"} for n, word in enumerate(corpus.DOMAIN_WORDS)]


def rows(*given: dict[str, object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in given)


@pytest.fixture
def home(tmp_path: Path, tiny_model: Path) -> Path:
    (tmp_path / "model").symlink_to(tiny_model)
    (tmp_path / "pairs.jsonl").write_text(rows(*PAIRS))
    return tmp_path


def steer(home: Path, *words: str) -> Done:
    return call_harness("steer", *words, cwd=home, env={"HARNESS_CACHE": str(home / "cache")})


def test_a_direction_is_found_tried_and_written(home: Path) -> None:
    done = steer(home, "out", "--model", "model", "--pairs", "pairs.jsonl", "--block", "1", "--coefficient", "2", "--try", "the river")
    assert done.rc == 0, done
    assert done.stdout.rstrip().endswith("out")
    assert "steered" in done.stdout
    assert "agreement" in done.stderr
    shown = json.loads(steer(home, "again", "--model", "model", "adapter.vector=out", "--json", "--try", "the old").stdout)
    assert (shown["coefficients"], shown["method"], shown["pairs"], shown["format"]) == ({"1": 2.0}, "mean_difference", 12, "vector")
    assert [row["block"] for row in shown["blocks"]] == [0, 1]
    ((tried,),) = (shown["tried"],)
    assert tried["prompt"] == "the old"
    assert tried["base"] != tried["steered"]
    assert steer(home, "gguf", "--model", "model", "--pairs", "pairs.jsonl", "--block", "1", "--format", "gguf").rc == 0
    assert (home / "gguf" / "control-vector.gguf").read_bytes()[:4] == b"GGUF"
    assert steer(home, "baked", "model.path=model", "adapter.vector=out", "--format", "baked").rc == 0
    assert AutoModelForCausalLM.from_pretrained(home / "baked").config.mlp_bias is True


def test_a_model_without_an_end_token_is_tried_up_to_a_length(home: Path, tiny_model: Path) -> None:
    without_end_token(tiny_model, home / "endless")
    words = ("--pairs", "pairs.jsonl", "--block", "1", "--coefficient", "2", "--try", "the river")
    done = steer(home, "out", "--model", "endless", *words)
    assert done.rc == 0, done
    assert (home / "out").is_dir()


REFUSED: dict[str, tuple[list[str], list[str]]] = {
    "no pairs": (["adapter.method=pca"], ["adapter.pairs: required with adapter=steering"]),
    "pairs that are not there": (["adapter.pairs=none.jsonl"], ["adapter.pairs=none.jsonl: no such file"]),
    "both": (["adapter.pairs=pairs.jsonl", "adapter.vector=out"], ["adapter.vector=out: not beside adapter.pairs=pairs.jsonl"]),
    "no vector": (["adapter.vector=model"], ["adapter.vector=model: no steering.json in it"]),
    "a method of a vector": (["adapter.vector=model", "adapter.method=pca"], ["adapter.method=pca: not with adapter.vector"]),
    "equal sides": (["adapter.pairs=equal.jsonl"], ["equal.jsonl, line 2", "equal"]),
    "one pair": (["adapter.pairs=one.jsonl"], ["adapter.pairs=one.jsonl: 1 contrast pair; valid: at least 2"]),
    "no side": (["adapter.pairs=half.jsonl"], ["half.jsonl, line 1", "negative"]),
    "a block that is not there": (
        ["adapter.pairs=pairs.jsonl", "adapter.block=2"],
        ["adapter.block=2: the model has 2 blocks; valid: 0 to 1"],
    ),
    "longer than the model reads": (["adapter.pairs=long.jsonl"], ["adapter.pairs=long.jsonl", "the model's context"]),
    "block 0 for llama.cpp": (["adapter.pairs=pairs.jsonl", "adapter.block=0", "--format", "gguf"], ["adapter.block=0", "block 1"]),
    "ablation for llama.cpp": (
        ["adapter.pairs=pairs.jsonl", "adapter.operation=ablate", "--format", "gguf"],
        ["adapter.operation=ablate: llama.cpp only adds"],
    ),
    "not the first for llama.cpp": (
        ["adapter.pairs=pairs.jsonl", "adapter.positions=not_first", "--format", "gguf"],
        ["adapter.positions=not_first: llama.cpp adds at every token"],
    ),
    "ablation at some tokens": (
        ["adapter.pairs=pairs.jsonl", "adapter.operation=ablate", "adapter.positions=all"],
        ["adapter.positions=all: not with adapter.operation=ablate"],
    ),
    "a width of ablation": (["adapter.pairs=pairs.jsonl", "adapter.operation=ablate", "adapter.width=1"], ["adapter.width=1"]),
    "out in use": (["adapter.pairs=pairs.jsonl", "OUT=model"], ["model", "not empty"]),
}


@pytest.mark.parametrize("model", [[], ["--model", "model", "model.path=model"]])
def test_a_model_is_given_once(home: Path, model: list[str]) -> None:
    refused(steer(home, "out", *model, "--pairs", "pairs.jsonl"), "the model is to be given once", "--model MODEL|RUN, or model.path=MODEL")


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input(home: Path, case: str) -> None:
    (home / "equal.jsonl").write_text(rows(PAIRS[0], {**PAIRS[1], "positive": " append key"}))
    (home / "one.jsonl").write_text(rows(PAIRS[0]))
    (home / "half.jsonl").write_text(rows({"prompt": "a", "positive": "b"}))
    (home / "long.jsonl").write_text(rows(PAIRS[0], {**PAIRS[1], "prompt": "river " * 40}))
    words, fragments = REFUSED[case]
    out = next((word.removeprefix("OUT=") for word in words if word.startswith("OUT=")), "new")
    done = steer(home, out, "--model", "model", *(word for word in words if not word.startswith("OUT=")))
    assert "Traceback" not in done.stderr
    assert done.rc == 2, done
    for fragment in fragments:
        assert fragment in done.stderr, done
    assert not (home / "new").exists()


def test_a_vector_of_another_model_is_refused(home: Path, tiny_text: TinyText) -> None:
    assert steer(home, "out", "--model", "model", "--pairs", "pairs.jsonl").rc == 0
    corpus.tiny_model(home / "other", tiny_text.tokenizer, tied=False)
    refused(steer(home, "new", "--model", "other", "adapter.vector=out"), "adapter.vector=out: it is of another model (model)")
    damaged = json.loads((home / "out" / "steering.json").read_text())
    for change in ({"norms": [1.0]}, {"coefficients": {"7": 1.0}}, {"method": "guess"}, {"opposed": []}):
        (home / "out" / "steering.json").write_text(json.dumps({**damaged, **change}))
        refused(steer(home, "new", "--model", "model", "adapter.vector=out"), "steering.json: damaged")
    (home / "out" / "steering.json").write_text(json.dumps(damaged))
    (home / "out" / "vector.safetensors").write_bytes((home / "out" / "vector.safetensors").read_bytes()[:-8])
    refused(steer(home, "new", "--model", "model", "adapter.vector=out"), "vector.safetensors: damaged")
