"""Tensors of a model's layers by their names alone, so that no table of architectures is needed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

NUMBERED = re.compile(r"(.+?\.)(\d+)(\..+)")
EMBEDDING = re.compile(r"(.*\.)?(embed_tokens|embed_tokens_per_layer|wte|embed_in|word_embeddings|tok_embeddings|token_embd)\.weight")
HEAD = re.compile(r"(.*\.)?(lm_head|embed_out|output|output_projection)\.(weight|bias)")
ATTENTION = re.compile(r"\.(self_attn|attn|attention|self_attention|mixer)\.")
MLP = re.compile(r"\.(mlp|feed_forward|block_sparse_moe|moe|ffn|experts|dense_h_to_4h|dense_4h_to_h|fc1|fc2)\.")
TRANSPOSED = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
"""Families that keep the matrices of their layers as [in, out]."""
RECOMPUTED = ("rotary_emb.inv_freq",)
"""Ends of the names of buffers that old files hold and no loader reads."""


@dataclass(frozen=True)
class Layers:
    """The repeated blocks of a model."""

    prefix: str
    """What stands before a layer's number, such as `model.layers.`; empty where there are none."""
    count: int

    def number(self, name: str) -> int | None:
        """The layer that a tensor belongs to; None outside of them."""
        match = NUMBERED.fullmatch(name)
        return int(match[2]) if match and match[1] == self.prefix else None

    def renamed(self, name: str, layer: int) -> str:
        """The same tensor of another layer."""
        match = NUMBERED.fullmatch(name)
        assert match is not None, "only of names that have a number"
        return f"{match[1]}{layer}{match[3]}"


def layers_of(names: Iterable[str]) -> Layers:
    """The layers of a model with tensors of these names: the numbered ones under the prefix that most of them have."""
    matches = [match for name in names if (match := NUMBERED.fullmatch(name))]
    if not matches:
        return Layers("", 0)
    (prefix, _), *_ = Counter(match[1] for match in matches).most_common(1)
    return Layers(prefix, 1 + max(int(match[2]) for match in matches if match[1] == prefix))


def is_transposed(config: Mapping[str, Any]) -> bool:
    """Whether a model of this config.json keeps the matrices of its layers as [in, out]."""
    return config.get("model_type") in TRANSPOSED


def is_of_vocabulary(name: str) -> bool:
    """Whether a tensor has a row for every token."""
    return bool(EMBEDDING.fullmatch(name) or HEAD.fullmatch(name))


def head_of(names: Iterable[str]) -> str | None:
    """The weight of the output layer; None where it is the embedding's."""
    return next((name for name in names if name.endswith(".weight") and HEAD.fullmatch(name)), None)


def embedding_of(names: Iterable[str]) -> str | None:
    """The input embedding."""
    return next((name for name in sorted(names, key=len) if EMBEDDING.fullmatch(name)), None)


def with_layers(config: dict[str, Any], before: int, numbers: list[int]) -> dict[str, Any]:
    """A config.json for these layers of a model that had `before`: their count, and what it lists layer by layer."""
    changed = dict(config)
    for key, value in config.items():
        if isinstance(value, dict):
            changed[key] = with_layers(value, before, numbers)
        elif key in ("num_hidden_layers", "n_layer", "num_layers", "n_layers"):
            changed[key] = len(numbers)
        elif isinstance(value, list) and len(value) == before and key.startswith("layer"):
            changed[key] = [value[number] for number in numbers]
    return changed
