"""Whether models can be merged, by their configurations: what changes a model's function must be the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.merging.source import FLOAT_BYTES, Source

ROPE = ("rope_theta", "rope_scaling", "partial_rotary_factor", "rotary_pct", "rotary_emb_base", "rope_type")
FUNCTION = (
    "model_type",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "n_head",
    "head_dim",
    "hidden_act",
    "hidden_activation",
    "activation_function",
    "sliding_window",
    "use_sliding_window",
    "layer_types",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "query_pre_attn_scalar",
    "attention_multiplier",
    "embedding_multiplier",
    "residual_multiplier",
    "logits_scaling",
    "logit_scale",
    "num_experts_per_tok",
    "norm_topk_prob",
    "parallel_residual",
    "use_parallel_residual",
    "alibi",
)
"""Settings that tensors of the same shapes are read by. What only one of two configurations has is its version's default."""


def config_problems(frame: Source, other: Source) -> Iterator[str]:
    """One line for each setting by which the two compute other functions of the same tensors."""
    ours, theirs = _text(frame.config), _text(other.config)
    for name in FUNCTION:
        if name in ours and name in theirs and ours[name] != theirs[name]:
            yield f"{other.label}: {name} is {theirs[name]}, and {ours[name]} in {frame.label}; valid: models of one architecture"
    rope, other_rope = rope_of(ours), rope_of(theirs)
    for name in sorted(rope.keys() & other_rope.keys()):
        if rope[name] != other_rope[name]:
            problem = f"its rotary positions differ from those of {frame.label} ({name} {other_rope[name]} and {rope[name]})"
            yield f"{other.label}: {problem}; valid: models whose positions were trained alike"


def source_problems(source: Source) -> Iterator[str]:
    """What keeps one model from being merged with any other."""
    if source.config.get("quantization_config") is not None:
        method = _mapping(source.config["quantization_config"]).get("quant_method", "its method is not told")
        problem = f"its weights are quantized ({method}), and what is stored is no weight"
        yield f"{source.label}: {problem}; valid: a model in float32, bfloat16 or float16"
        return
    odd = sorted(
        {tensor.dtype for tensor in source.tensors.values() if tensor.dtype not in FLOAT_BYTES and tensor.dtype.startswith(("F", "B"))}
        - {"BOOL"}
    )
    if odd:
        yield f"{source.label}: it holds tensors of type {', '.join(odd)}; valid: {', '.join(FLOAT_BYTES)}"
    if not source.tensors:
        yield f"{source.label}: its weight files hold no tensors"


def rope_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What says how positions are rotated: older files have it in two settings, newer ones in rope_parameters."""
    found = {name: config[name] for name in ROPE if config.get(name) is not None}
    scaling = {**_mapping(found.pop("rope_scaling", None)), **_mapping(config.get("rope_parameters"))}
    if "type" in scaling:
        scaling.setdefault("rope_type", scaling.pop("type"))
    found.update(scaling)
    return {"rope_type": "default", **found}


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part that is of text, of a model of text and pictures."""
    inner = config.get("text_config")
    return {**config, **inner} if isinstance(inner, dict) else config


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
