"""Causal language models of transformers: pretrained, or new by family and shape."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from harness.config.errors import did_you_mean, wrong_value
from harness.config.schema import Config, ModelConfig
from harness.models.attention import transformers_name
from harness.models.pretrained import first_line, load_pretrained, not_installed, pretrained_fingerprint, stored_rows
from harness.models.vocabulary import add_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EXAMPLES = ("llama", "qwen3", "mistral", "olmo2", "smollm3")
"""Families named in messages."""


def build_model(config: ModelConfig, tokenizer: Any, *, seed: int, new_tokens: Sequence[str] = ()) -> PreTrainedModel:
    """The model in float32, in training mode, without a key-value cache.

    A pretrained model gets rows for the `new_tokens` of the tokenizer. use_cache must be off: with a cache transformers silently ignores
    the position ids that keep packed documents apart.
    Raises InputError for what cannot be loaded or built.
    """
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.manual_seed(seed)
    if config.path is not None:
        model = load_pretrained(config.path, key="model.path", attention=config.attention, attention_dropout=config.attention_dropout)
    elif config.merge.method is not None:
        from harness.models.merged import merged_model

        model = merged_model(config, seed=seed)
    else:
        model = _from_scratch(config, tokenizer)
    model.config.use_cache = False
    if new_tokens and config.frame is not None:
        add_rows(model, tokenizer.convert_tokens_to_ids(list(new_tokens)), seed=seed)
    model.train()
    return model


def planned_rows(config: Config, tokenizer: Any) -> int:
    """For how many tokens the model that a configuration makes has rows, told before it is made."""
    if config.model.frame is None:
        return _token_ids(tokenizer)
    from harness.models.merged import frame_folder

    key, path = frame_folder(config.model) or config.model.frame
    added: list[int] = tokenizer.convert_tokens_to_ids(config.tokenizer.new_tokens)
    return max([stored_rows(path, key=key), *(index + 1 for index in added)])


def _token_ids(tokenizer: Any) -> int:
    """Ids up to the largest that the tokenizer has."""
    return int(max(tokenizer.get_vocab().values())) + 1


def new_model_config(config: ModelConfig, tokenizer: Any) -> Any:
    """transformers' configuration of a model from scratch, which names its class. Raises InputError for one that cannot be."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as FAMILIES

    shape = _shape(config, tokenizer)
    return AutoConfig.for_model(config.family, architectures=[FAMILIES[config.family]], **shape)


def _from_scratch(config: ModelConfig, tokenizer: Any) -> PreTrainedModel:
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        shape = AutoConfig.for_model(config.family, **_shape(config, tokenizer))
        model: PreTrainedModel = AutoModelForCausalLM.from_config(shape, attn_implementation=transformers_name(config.attention))  # type: ignore[no-untyped-call]
        return model
    except ImportError as error:
        raise not_installed(config.attention, error) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise wrong_value("model.family", config.family, f"cannot be built: {first_line(error)}") from error


def _shape(config: ModelConfig, tokenizer: Any) -> dict[str, Any]:
    """The settings of `config` by transformers' names. Raises InputError for an unknown family, and for a setting that it lacks."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as FAMILIES

    if config.family not in FAMILIES:
        hint = did_you_mean(config.family, FAMILIES).lower()
        problem = (
            f"no causal language model of transformers;{hint} Valid are its {len(FAMILIES)} model types, such as {', '.join(EXAMPLES)}"
        )
        raise wrong_value("model.family", config.family, problem)
    family = AutoConfig.for_model(config.family)
    known = {*family.to_dict(), *family.attribute_map}
    shape = {
        "vocab_size": _token_ids(tokenizer),
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "max_position_embeddings": config.max_context,
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    optional = {
        "intermediate_size": ("intermediate_size", config.intermediate_size, -(-8 * config.hidden_size // 3 // 32) * 32),
        "num_key_value_heads": ("kv_heads", config.kv_heads, config.heads),
        "attention_dropout": ("attention_dropout", config.attention_dropout, 0.0),
        # Some families have a size of their own here, however wide the model.
        "head_dim": ("heads", None, config.hidden_size // config.heads),
    }
    for name, (key, value, default) in optional.items():
        if name in known:
            shape[name] = default if value is None else value
        elif value is not None:
            raise wrong_value(f"model.{key}", value, f"models of the family {config.family} have no such setting ({name})")
    return shape


def part_fingerprints(config: ModelConfig) -> dict[str, str]:
    """Of the models that a merge is made of, by their keys; {} of another model."""
    if config.merge.method is None:
        return {}
    from harness.models.merged import ingredient_fingerprints

    return ingredient_fingerprints(config.merge)


def model_fingerprint(config: ModelConfig) -> str:
    """A hash of the initial model: of pretrained weights, see `pretrained_fingerprint`, of a merge's recipe and the weights that it merges,
    or of the shape.

    The weights of model.checkpoint have a fingerprint of their own.
    """
    if config.path is not None:
        return pretrained_fingerprint(config.path, key="model.path")
    if config.merge.method is not None:
        from harness.models.merged import merge_fingerprint

        return merge_fingerprint(config.merge)
    # As runs and recipes have it from before there was model.checkpoint, whose path says nothing of its content.
    shape = ", ".join(f"{item.name}={getattr(config, item.name)!r}" for item in fields(config) if item.name not in ("checkpoint", "merge"))
    return hashlib.sha256(f"ModelConfig({shape})".encode()).hexdigest()
