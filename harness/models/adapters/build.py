"""From the configuration to a model with adapters."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never

from harness.config.checks.model import longest_context
from harness.config.checks.trainer import trains
from harness.config.errors import wrong_value
from harness.config.schema import Config
from harness.config.steering_controls import controlled
from harness.models.adapters.lora import add_lora
from harness.models.language_model import build_model

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from harness.models.adapters.soft_prompt import PromptEmbedding
    from harness.models.adapters.steering import Directions, Steering


@dataclass(frozen=True)
class AdaptedModel:
    """A model with its adapters."""

    model: PreTrainedModel
    """transformers' model, whose layers hold the adapters; only what is trained requires a gradient."""
    peft: PeftModel | None = None
    """peft's wrapper around the same model, of LoRA."""
    prompt: PromptEmbedding | None = None
    steering: Steering | None = None
    """As it was planned; see `steering_in` for what training made of it."""


def build_adapted_model(config: Config, tokenizer: Any, directions: Directions | None = None) -> AdaptedModel:
    """The model of `config.model` with `config.adapter`, and the weights of `config.model.checkpoint` where one is given; see build_model.

    directions: of adapter=steering, see `harness.training.steering`.
    Raises InputError for an adapter that does not fit the model, and for weights that do not.
    """
    adapted = _adapted(config, tokenizer, directions)
    longest, wanted = longest_context(adapted.model.config.to_dict()), config.data.context_length + config.adapter.tokens
    if longest is not None and wanted > longest:  # of a local directory known before
        problem = f"longer than the model's context of {longest} tokens" + (", with adapter.tokens" if config.adapter.tokens else "")
        raise wrong_value("data.context_length", config.data.context_length, problem)
    if config.model.checkpoint is not None:
        from harness.models.checkpoint_files import load_checkpoint

        load_checkpoint(adapted.model, config.model.checkpoint)
    return adapted


def _adapted(config: Config, tokenizer: Any, directions: Directions | None) -> AdaptedModel:
    import torch

    model = build_model(config.model, tokenizer, seed=config.seed, new_tokens=config.tokenizer.new_tokens)
    adapter = config.adapter
    # Numbers of its own: those of the seed itself became weights of the model already.
    seed = int.from_bytes(hashlib.blake2b(f"{config.seed}\0adapter".encode(), digest_size=4).digest(), "little")
    torch.manual_seed(seed)
    peft = steering = None
    match adapter.name:
        case "none":
            return AdaptedModel(model)
        case "lora":
            peft = add_lora(model, adapter, _trained_tokens(config, tokenizer))
        case "soft_prompt":
            model.requires_grad_(False)
        case "steering":
            from harness.models.adapters.steering import add_steering, plan_steering

            assert directions is not None, "whoever builds a steered model brings them"
            steering = plan_steering(controlled(adapter), directions)
            if steering.operation == "ablate" and trains(config.trainer):  # as a vector file says; of the key it was known before
                raise wrong_value(
                    "adapter.vector", adapter.vector, "it is taken out, which has nothing to train; valid: trainer.max_steps=0"
                )
            add_steering(model, steering)
        case _:
            assert_never(adapter.name)
    prompt = None
    if adapter.tokens:
        from harness.models.adapters.soft_prompt import add_soft_prompt

        prompt = add_soft_prompt(model, adapter.tokens, adapter.init_text, tokenizer, generator=torch.Generator().manual_seed(seed))
    model.train()
    return AdaptedModel(model, peft, prompt, steering)


def _trained_tokens(config: Config, tokenizer: Any) -> list[int]:
    """Ids of the tokens whose embeddings are trained beside LoRA, sorted."""
    vocabulary = tokenizer.get_vocab()
    unknown = [token for token in config.adapter.train_tokens if token not in vocabulary]
    if unknown:
        problem = f"the tokenizer has no token {', '.join(unknown)}; tokenizer.new_tokens adds tokens"
        raise wrong_value("adapter.train_tokens", config.adapter.train_tokens, problem)
    return sorted({int(vocabulary[token]) for token in (*config.adapter.train_tokens, *config.tokenizer.new_tokens)})
