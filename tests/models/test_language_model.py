"""Models from scratch and from directories, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from harness.config.errors import InputError
from harness.config.schema import ModelConfig
from harness.models.language_model import build_model, model_fingerprint
from harness.models.vocabulary import refuse_unknown_ids, vocabulary_size
from tests.support.corpus import TinyText

SHAPE = {"hidden_size": 32, "layers": 2, "heads": 2, "max_context": 32}


@pytest.fixture(scope="module")
def tokenizer(tiny_text: TinyText) -> object:
    return AutoTokenizer.from_pretrained(tiny_text.tokenizer)


@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral", "olmo2", "smollm3", "gpt2", "gpt_neox"])
def test_from_scratch(family: str, tokenizer: object) -> None:
    model = build_model(ModelConfig(family=family, **SHAPE), tokenizer, seed=0)  # type: ignore[arg-type]
    shape = model.config
    assert (shape.model_type, shape.hidden_size, shape.num_hidden_layers, shape.num_attention_heads) == (family, 32, 2, 2)
    assert (shape.max_position_embeddings, shape.vocab_size, shape.use_cache) == (32, len(tokenizer), False)  # type: ignore[arg-type]
    assert getattr(shape, "head_dim", None) in (16, None)
    assert model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


def test_the_shape_that_was_asked_for(tokenizer: object) -> None:
    config = ModelConfig(hidden_size=64, intermediate_size=96, layers=1, heads=4, kv_heads=2, tie_embeddings=False, attention_dropout=0.25)
    layer = (model := build_model(config, tokenizer, seed=0)).model.layers[0]
    assert layer.mlp.up_proj.weight.shape == (96, 64)
    assert layer.self_attn.k_proj.weight.shape == (32, 64)
    assert layer.self_attn.attention_dropout == 0.25
    assert model.get_input_embeddings().weight is not model.get_output_embeddings().weight


def test_the_seed_makes_the_weights(tokenizer: object) -> None:
    one, same, other = (build_model(ModelConfig(**SHAPE), tokenizer, seed=seed) for seed in (1, 1, 2))  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"family": "lama"}, r"model.family=lama: .*did you mean 'llama'\?.*such as llama, qwen3"),
        ({"family": "t5"}, r"model.family=t5: no causal language model of transformers"),
        ({"family": "gpt2", "kv_heads": 1}, r"model.kv_heads=1: models of the family gpt2 have no such setting"),
        ({"family": "gpt2", "attention_dropout": 0.1}, r"model.attention_dropout=0.1: models of the family gpt2"),
    ],
)
def test_what_cannot_be_built(values: dict[str, object], message: str, tokenizer: object) -> None:
    with pytest.raises(InputError, match=message):
        build_model(ModelConfig(**SHAPE, **values), tokenizer, seed=0)  # type: ignore[arg-type]


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_from_a_directory(tiny_model: Path, tokenizer: object) -> None:
    model = build_model(ModelConfig(path=str(tiny_model), attention_dropout=0.5), tokenizer, seed=0)
    stored = load_file(tiny_model / "model.safetensors")
    assert all(torch.equal(model.state_dict()[name], value) for name, value in stored.items())
    assert model.training
    assert model.config.use_cache is False
    assert model.model.layers[0].self_attn.attention_dropout == 0.5


def test_an_output_layer_of_its_own_is_not_called_the_embedding(copy: Path, tokenizer: object, tmp_path: Path) -> None:
    """Engines that read the configuration alone would take the embedding for it."""
    weights = load_file(copy / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] * 1.5
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    build_model(ModelConfig(path=str(copy)), tokenizer, seed=0).save_pretrained(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False
    assert torch.equal(load_file(tmp_path / "out" / "model.safetensors")["lm_head.weight"], weights["lm_head.weight"])


def damaged(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])


def garbage(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)


def not_pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"no such thing")


def incomplete(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def misshapen(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = torch.ones(7)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def not_a_number(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def broken_configuration(folder: Path) -> None:
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize("spoil", [damaged, garbage, not_pickled, incomplete, misshapen, not_a_number, broken_configuration])
def test_a_directory_that_cannot_be_used(spoil, copy: Path, tokenizer: object) -> None:  # type: ignore[no-untyped-def]
    spoil(copy)
    with pytest.raises(InputError, match=rf"model.path={copy}: .+"):
        build_model(ModelConfig(path=str(copy)), tokenizer, seed=0)


def test_what_the_text_uses_decides_whether_a_vocabulary_is_too_small(copy: Path) -> None:
    larger = AutoTokenizer.from_pretrained(copy)
    larger.add_tokens(["<picture>", "<sound>"])
    model = build_model(ModelConfig(path=str(copy)), larger, seed=0)
    rows = len(larger) - 2
    refuse_unknown_ids(model, larger, rows - 1, path=str(copy))
    with pytest.raises(InputError, match=rf"it has rows for {rows} tokens \(ids 0 to {rows - 1}\), and the text has the token '<sound>' "):
        refuse_unknown_ids(model, larger, rows + 1, path=str(copy))


def test_rows_of_tokens_between_are_made_with_those_of_new_ones(copy: Path) -> None:
    larger = AutoTokenizer.from_pretrained(copy)
    larger.add_tokens(["<picture>", "<new>"])
    embedding = build_model(ModelConfig(path=str(copy)), larger, seed=0, new_tokens=["<new>"]).get_input_embeddings().weight.detach()
    assert len(embedding) == len(larger)
    mean = embedding[:-2].mean(dim=0)
    assert float((embedding[-2:] - mean).abs().max()) < 0.1 * 5 * float(embedding[:-2].std())


def test_a_vocabulary_with_gaps_has_rows_for_its_largest_id() -> None:
    tokenizer = SimpleNamespace(get_vocab=lambda: {"a": 0, "b": 1000}, bos_token_id=None, eos_token_id=0, pad_token_id=None)
    assert vocabulary_size(build_model(ModelConfig(**SHAPE), tokenizer, seed=0)) == 1001  # type: ignore[arg-type]


def test_the_fingerprint_follows_the_weights(copy: Path) -> None:
    config = ModelConfig(path=str(copy))
    before = model_fingerprint(config)
    assert model_fingerprint(config) == before
    weights = load_file(copy / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert model_fingerprint(config) != before


def test_the_fingerprint_of_a_shape_says_nothing_of_a_path() -> None:
    """It is what runs and recipes from before there was model.checkpoint have; weights of a run have a fingerprint of their own."""
    known = "863a4541b2b3bd43674e136902f7eaf9093ec8650c82dc93892f5f1fd195e4e4"
    assert model_fingerprint(ModelConfig()) == known
    assert model_fingerprint(ModelConfig(checkpoint="runs/first")) == known
    assert model_fingerprint(ModelConfig(layers=2)) != known
