"""Models by their hub name, from the hub's cache on this machine, without a network."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.config.errors import InputError
from harness.config.load import load
from harness.config.schema import Config, ModelConfig, ObjectiveConfig, TokenizerConfig
from harness.models.hub import fetch_models
from harness.models.language_model import build_model, model_fingerprint
from harness.models.pretrained import tokenizer_at
from harness.training.sample_teacher import teacher_fingerprint
from tests.support.command import call_harness
from tests.support.corpus import TinyText

FIRST, SECOND = "1" * 40, "2" * 40
REPOSITORIES = {
    "some/model": [
        *("config.json", "README.md", "model-00001-of-00001.safetensors", "model.safetensors.index.json"),
        *("pytorch_model.bin", "consolidated.safetensors", "original/params.json", "onnx/model.onnx"),
    ],
    "some/tokenizer": ["config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors"],
}


class HubCache:
    """As huggingface_hub lays it out."""

    def __init__(self, root: Path, model: Path) -> None:
        self._root, self._model = root, model

    def publish(self, name: str, commit: str) -> None:
        """From now on the model is at this commit under this name."""
        folder = self._root / f"models--{name.replace('/', '--')}"
        if not (snapshot := folder / "snapshots" / commit).is_dir():
            shutil.copytree(self._model, snapshot)
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text(commit)


@pytest.fixture
def hub(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> HubCache:
    # What HF_HUB_CACHE and HF_HUB_OFFLINE become when the library is imported.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return HubCache(tmp_path / "hub", tiny_model)


@pytest.mark.parametrize("name", ["tiny", "someone/tiny.v1"])
def test_a_hub_name_with_or_without_an_owner(name: str, hub: HubCache, tiny_text: TinyText, tiny_model: Path) -> None:
    hub.publish(name, FIRST)
    config = load([*tiny_text.pretrained(Path(name)), "objective=distill", f"objective.teacher={name}", f"tokenizer.path={name}"]).config
    model = build_model(config.model, tokenizer_at(config.tokenizer.path, key="tokenizer.path"), seed=0)
    expected = AutoModelForCausalLM.from_pretrained(tiny_model).state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in model.state_dict().items())


def test_a_name_that_is_neither_here_nor_in_the_cache(hub: HubCache, tiny_text: TinyText) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_text.tokenizer)
    for absent in (
        lambda: build_model(ModelConfig(path="gpt2"), tokenizer, seed=0),
        lambda: model_fingerprint(ModelConfig(path="gpt2")),
        lambda: tokenizer_at("gpt2", key="model.path"),
    ):
        with pytest.raises(InputError) as raised:
            absent()
        text = str(raised.value)
        assert text.startswith("model.path=gpt2: no such directory, not in the cache of the Hugging Face hub"), text
        assert "(HF_HUB_OFFLINE=1); valid: a model's directory, or a name that `hf download gpt2`" in text
        assert len(text.splitlines()) == 1, text


def test_the_fingerprint_is_of_the_commit(hub: HubCache) -> None:
    hub.publish("someone/tiny", FIRST)
    config = ModelConfig(path="someone/tiny")
    before = model_fingerprint(config)
    assert model_fingerprint(ModelConfig(path="someone/tiny", attention="eager", liger=True, attention_dropout=0.1)) == before
    hub.publish("someone/tiny", SECOND)
    assert model_fingerprint(config) != before
    hub.publish("someone/tiny", FIRST)
    assert model_fingerprint(config) == before


def test_the_fingerprint_of_a_teacher_is_too(hub: HubCache) -> None:
    hub.publish("teacher", FIRST)
    config = Config(objective=ObjectiveConfig(name="distill", teacher="teacher"))
    before = teacher_fingerprint(config)
    hub.publish("teacher", SECOND)
    assert teacher_fingerprint(config) != before


@pytest.mark.parametrize("name", ["someone/tiny", "someone/absent"])
def test_a_hub_that_does_not_answer_is_asked_once(
    name: str, hub: HubCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    hub.publish("someone/tiny", FIRST)
    begun = time.monotonic()
    if name == "someone/tiny":
        assert tokenizer_at(name, key="model.path").is_fast
    else:
        with pytest.raises(InputError, match="no such directory, not in the cache of the Hugging Face hub on this machine, and not to be"):
            tokenizer_at(name, key="model.path")
    assert time.monotonic() - begun < 5
    said = ["the Hugging Face hub does not answer; only what is in its cache on this machine is used"] if name == "someone/tiny" else []
    assert [record.getMessage() for record in caplog.records if record.name == "harness"] == said


@pytest.mark.parametrize("key", ["model.path", "tokenizer.path", "objective.teacher", "data.sources.domain.path"])
def test_a_name_out_of_reach_is_said_before_anything_is_imported_or_written(
    key: str, hub: HubCache, tiny_text: TinyText, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("harness.models.hub.ANSWER_SECONDS", 0.2)
    monkeypatch.setattr("harness.data.remote.ANSWER_SECONDS", 0.2)
    for question in ("model_info", "dataset_info"):
        monkeypatch.setattr(f"huggingface_hub.HfApi.{question}", lambda *args, **options: time.sleep(60))
    distilled = ["objective=distill"] if key == "objective.teacher" else []
    given = ["model=pretrained"] if key == "model.path" else []
    without = [option for option in tiny_text.overrides if key != "data.sources.domain.path" or "validation.domain" not in option]
    overrides = [*without, *distilled, *given, f"{key}=someone/absent{len(key)}", "trainer.max_steps=1"]
    for verb in ("data", "train"):
        done = call_harness(verb, *overrides, cwd=tmp_path, env={"HARNESS_RUNS": str(tmp_path / "runs")})
        assert done.rc == 2, done
        assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == done.stderr.splitlines()[-1:], done
        assert f"error: {key}=someone/absent{len(key)}: no such" in done.stderr, done
        assert "TimeoutError: no answer within 0.2 seconds" in done.stderr, done
    assert not (tmp_path / "runs").exists()


def test_a_study_is_prepared_with_its_models(hub: HubCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its runs are, there may be no network."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda self, name: REPOSITORIES[name])
    fetched: dict[str, list[str]] = {}
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, allow_patterns: fetched.update({name: allow_patterns}))
    config = Config(model=ModelConfig(path="some/model"), tokenizer=TokenizerConfig(path="some/tokenizer"))
    fetch_models(config)
    assert fetched == {
        "some/model": ["config.json", "model-00001-of-00001.safetensors", "model.safetensors.index.json"],
        "some/tokenizer": ["config.json", "tokenizer.json", "chat_template.jinja"],
    }
