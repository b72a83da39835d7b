"""Model directories that are made in a millisecond: a header, a config.json, a vocabulary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.merging.folder import folder_source
from harness.merging.merge import merged_tensors
from harness.merging.operands import Floats
from harness.merging.plan import Plan

WIDTH = 4
TOKENS = ("a", "b", "c", "d", "e", "f")
CONFIG = {
    "model_type": "llama",
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "rope_theta": 10000.0,
    "vocab_size": len(TOKENS),
    "tie_word_embeddings": False,
}
EMBEDDING, HEAD, NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"

MODULES = [f"model.layers.{layer}.{name}" for layer in range(2) for name in ("self_attn.q_proj", "mlp.up_proj")]


def tensors(seed: int, *, layers: int = 2, rows: int = len(TOKENS), tied: bool = False) -> dict[str, np.ndarray[Any, Any]]:
    """Of a small Llama-like model, float32."""
    random = np.random.default_rng(seed)
    shapes = {EMBEDDING: (rows, WIDTH), NORM: (WIDTH,)} | ({} if tied else {HEAD: (rows, WIDTH)})
    for layer in range(layers):
        shapes |= {f"model.layers.{layer}.self_attn.q_proj.weight": (WIDTH, WIDTH), f"model.layers.{layer}.mlp.up_proj.weight": (6, WIDTH)}
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def write_model(
    folder: Path,
    values: Mapping[str, np.ndarray[Any, Any]],
    *,
    config: Mapping[str, Any] | None = None,
    tokens: Sequence[str] | None = TOKENS,
    licence: str | None = None,
) -> Path:
    """A directory with these tensors. tokens: by id; None: without a tokenizer."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    save_file(dict(values), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**CONFIG, **(config or {})}))
    if tokens is not None:
        document = {"model": {"type": "WordLevel", "vocab": {token: index for index, token in enumerate(tokens)}}, "added_tokens": []}
        (folder / "tokenizer.json").write_text(json.dumps(document))
    if licence is not None:
        (folder / "README.md").write_text(f"---\nlicense: {licence}\n---\n")
    return folder


def write_adapter_files(
    folder: Path, base: str | None, seed: int, *, rank: int = 2, modules: Sequence[str] = MODULES, **config: Any
) -> Path:
    """A LoRA in peft's files: alpha 4 unless told, factors float32."""
    from safetensors.numpy import save_file

    random = np.random.default_rng(seed)
    values = {}
    for module in modules:
        rows = 6 if module.endswith("up_proj") else WIDTH
        for factor, shape in (("A", (rank, WIDTH)), ("B", (rows, rank))):
            values[f"base_model.model.{module}.lora_{factor}.weight"] = random.normal(size=shape).astype(np.float32)
    folder.mkdir(parents=True)
    save_file(values, folder / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "r": rank, "lora_alpha": 4, "base_model_name_or_path": base, "target_modules": list(modules), **config}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    return folder


def read_model(folder: Path) -> dict[str, Floats]:
    """All of a model directory, as float32."""
    source = folder_source(folder, str(folder), key="model")
    return {name: tensor.read(0, tensor.shape[0]).reshape(tensor.dimensions) for name, tensor in source.tensors.items()}


def merged_values(plan: Plan) -> dict[str, Floats]:
    """What a plan makes, before it is rounded."""
    return {target.name: np.concatenate(list(blocks)).reshape(target.dimensions) for target, blocks in merged_tensors(plan)}
