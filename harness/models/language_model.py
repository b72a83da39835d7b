"""Causal language models of transformers: pretrained, or new by family and shape."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.checks import WEIGHT_FILES
from harness.config.errors import InputError, wrong_value
from harness.config.schema import ModelConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def build_model(config: ModelConfig, tokenizer: Any, *, seed: int) -> PreTrainedModel:
    """The model in float32, in training mode, without a key-value cache.

    use_cache must be off: with a cache transformers silently ignores the position ids that keep packed documents apart.
    Raises InputError for what cannot be loaded or built.
    """
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.manual_seed(seed)
    model = _pretrained(config) if config.path is not None else _from_scratch(config, tokenizer)
    model.config.use_cache = False
    vocabulary = vocabulary_size(model)
    if len(tokenizer) > vocabulary:
        raise InputError(f"model.path={config.path}: its vocabulary of {vocabulary} is smaller than the tokenizer's {len(tokenizer)}")
    model.train()
    return model


def vocabulary_size(model: PreTrainedModel) -> int:
    """Rows of the input embedding."""
    return int(model.get_input_embeddings().num_embeddings)  # type: ignore[arg-type]


def _pretrained(config: ModelConfig) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM

    assert config.path is not None
    dropout = {} if config.attention_dropout is None else {"attention_dropout": config.attention_dropout}
    try:
        return AutoModelForCausalLM.from_pretrained(config.path, dtype=torch.float32, attn_implementation=config.attention, **dropout)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise wrong_value("model.path", config.path, f"no causal language model could be loaded from it: {first}") from error


def _from_scratch(config: ModelConfig, tokenizer: Any) -> PreTrainedModel:
    from transformers import AutoConfig, AutoModelForCausalLM

    intermediate = config.intermediate_size or -(-8 * config.hidden_size // 3 // 32) * 32
    try:
        shape = AutoConfig.for_model(
            config.family,
            vocab_size=len(tokenizer),
            hidden_size=config.hidden_size,
            intermediate_size=intermediate,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads or config.heads,
            max_position_embeddings=config.max_context,
            tie_word_embeddings=config.tie_embeddings,
            attention_dropout=config.attention_dropout or 0.0,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        model: PreTrainedModel = AutoModelForCausalLM.from_config(shape, attn_implementation=config.attention)  # type: ignore[no-untyped-call]
        return model
    except (ValueError, KeyError) as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise wrong_value("model.family", config.family, f"cannot be built: {first[:300]}") from error


def model_fingerprint(config: ModelConfig) -> str:
    """A hash of what the model starts from: the shape, or config.json with the size, head and tail of every weight file.

    Whole weight files are not read: hashing 100 GB at each start would cost more than it tells.
    """
    digest = hashlib.sha256()
    folder = Path(config.path) if config.path else None
    if folder is None or not folder.is_dir():
        digest.update(repr(config).encode())
        return digest.hexdigest()
    digest.update((folder / "config.json").read_bytes())
    for path in sorted(path for pattern in WEIGHT_FILES for path in folder.glob(pattern)):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}".encode())
        with path.open("rb") as stream:
            digest.update(stream.read(1 << 20))
            stream.seek(max(0, size - (1 << 20)))
            digest.update(stream.read())
    return digest.hexdigest()
