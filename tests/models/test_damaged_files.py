"""Directories of models and tokenizers that are damaged, or made to harm: one message that names the key."""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.config.checks.model import pretrained_problems
from harness.config.documents import DamagedError
from harness.config.errors import InputError
from harness.models.pretrained import tokenizer_at
from harness.models.steering.vector_file import read_vector
from tests.support.corpus import TinyText


@pytest.fixture
def directory(tiny_text: TinyText, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_text.tokenizer, tmp_path / "tokenizer"))


def changed(path: Path, **values: Any) -> None:
    document = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**document, **values}))


def with_vocabulary(folder: Path, change: Callable[[dict[str, int]], dict[str, Any]]) -> None:
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text())
    document["model"]["vocab"] = change(document["model"]["vocab"])
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: changed(folder / "tokenizer_config.json", tokenizer_class=5),
        lambda folder: changed(folder / "tokenizer_config.json", eos_token=["a"]),
        lambda folder: changed(folder / "tokenizer_config.json", added_tokens_decoder={"x": 5}),
        lambda folder: changed(folder / "tokenizer_config.json", extra_special_tokens=5),
        lambda folder: (folder / "tokenizer_config.json").write_text("[" * 100_000),
        lambda folder: (folder / "tokenizer_config.json").write_text("[1]"),
        lambda folder: (folder / "tokenizer.json").write_text("{"),
        lambda folder: with_vocabulary(folder, lambda known: {}),
        lambda folder: with_vocabulary(folder, lambda known: {**known, "zz": -1}),
        lambda folder: with_vocabulary(folder, lambda known: {**known, "zz": 2**32 - 2}),
    ],
)
def test_a_damaged_tokenizer_is_one_message(directory: Path, damage: Callable[[Path], object]) -> None:
    damage(directory)
    with pytest.raises(InputError, match=r"^tokenizer\.path="):
        tokenizer_at(str(directory), key="tokenizer.path")


def vector_of(folder: Path, **shapes: list[int]) -> Path:
    """A steering vector of two blocks of 4 numbers, with tensors of these shapes beside its own, or in their place."""
    uses = {"method": "mean_difference", "reading": "last", "operation": "add", "positions": "all", "coefficients": {"1": 0.5}}
    of_blocks = {"norms": [1.0, 1.0], "agreement": [0.5, 0.5], "opposed": [0.0, 0.0]}
    changed(folder / "steering.json", model="m", model_fingerprint="x", pairs=2, pairs_fingerprint=None, **uses, **of_blocks)
    tensors = {"block.0": [4], "block.1": [4], **shapes}
    entries = {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * math.prod(shape)]} for name, shape in tensors.items()}
    header = json.dumps(entries).encode()
    (folder / "vector.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    return folder


def test_a_damaged_steering_vector_is_one_message(tmp_path: Path) -> None:
    vectors, _ = read_vector(vector_of(tmp_path))
    assert [len(vector) for vector in vectors.values()] == [4, 4]
    others = [(f"block.{number}", [4]) for number in ("9" * 5000, "01", "\N{ARABIC-INDIC DIGIT ONE}", "-1", "2")]
    for name, shape in [*others, *(("block.1", shape) for shape in ([2], [0], [True], [2, 2], [2**40]))]:
        with pytest.raises(DamagedError):
            read_vector(vector_of(tmp_path, **{name: shape}))
    for norm in (1e308, -1.0):  # no float32, no norm
        changed(vector_of(tmp_path) / "steering.json", norms=[1.0, norm])
        with pytest.raises(DamagedError, match=r"steering\.json: damaged"):
            read_vector(tmp_path)
    file = vector_of(tmp_path) / "vector.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + struct.pack("<f", math.nan))
    with pytest.raises(DamagedError, match=r"vector\.safetensors: damaged: its directions are not finite"):
        read_vector(tmp_path)


@pytest.mark.parametrize("content", ["[1]", "[" * 100_000, '{"model_type": ', '{"max_position_embeddings": ' + "9" * 5000 + "}", None])
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_damaged_configuration_is_one_message(tmp_path: Path, name: str, content: str | None) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").touch()
    (tmp_path / name).unlink(missing_ok=True)
    if content is None:
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=rf"{name}: damaged: "):
        list(pretrained_problems("model.path", str(tmp_path), 32))


def test_weights_that_are_not_there_are_said_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")

    def problems() -> list[str]:
        return list(pretrained_problems("model.path", str(tmp_path), 16))

    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert problems() == [f"model.path={tmp_path}: no weights in it (*.safetensors or pytorch_model*.bin)"]
    shards = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {name: name for name in shards}}))
    (tmp_path / shards[0]).touch()
    assert "2 of its 3 files are not there, which model.safetensors.index.json names" in problems()[0]
    (tmp_path / shards[1]).touch()
    assert f"{shards[2]} is not there" in problems()[0]
    (tmp_path / shards[2]).touch()
    # What a download without these files leaves behind.
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": "pytorch_model-00001-of-00002.bin"}}))
    assert problems() == []


def test_an_adapter_is_told_from_a_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").touch()
    (problem,) = pretrained_problems("model.path", str(tmp_path), 16)
    assert f"no config.json in it; an adapter: `harness merge OUT BASE+{tmp_path}` makes a model of it" in problem


def test_a_run_is_told_from_a_model(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    problem, *_ = pretrained_problems("model.path", str(tmp_path), 16)
    assert f"no config.json in it; a run: `harness export {tmp_path} OUT` writes its model" in problem
