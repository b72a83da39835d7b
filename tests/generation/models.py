"""Small models of random weights that write."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from harness.config.schema import SamplingConfig
from harness.generation.engine import Engine
from harness.generation.rows import Draw, Prompt

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}


def random_model(tokenizer: Any, family: str = "llama", **shape: Any) -> PreTrainedModel:
    """Sure enough of its next token to end some texts soon, and others late."""
    torch.manual_seed(0)
    known = shape or SHAPE
    config = AutoConfig.for_model(family, **{"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, **known})
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    model.config.use_cache = False
    return model.eval()


def engine_of(model: PreTrainedModel, tokenizer: Any, *, rows: int | None = None, tokens: int = 1024, **sampling: Any) -> Engine:
    return Engine(model, tokenizer, SamplingConfig(**sampling), batch_tokens=tokens, batch_rows=rows)


def random_rows(tokenizer: Any, count: int, *, draws: int = 1, longest: int = 24) -> list[Draw]:
    generator = torch.Generator().manual_seed(1)
    letters = [index for index in range(3, len(tokenizer)) if tokenizer.decode([index]).isascii()]
    prompts = []
    for number in range(count):
        length = int(torch.randint(1, longest, (1,), generator=generator))
        ids = [letters[int(at)] for at in torch.randint(len(letters), (length,), generator=generator)]
        prompts.append(Prompt(f"p{number}", tokenizer.decode(ids), tuple(ids)))
    return [Draw(prompt, draw) for prompt in prompts for draw in range(draws)]
