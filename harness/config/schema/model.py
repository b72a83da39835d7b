"""The model and its tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Lt

from harness.config.schema.base import Count, MultipleOfKeys, Name, Section
from harness.config.schema.merge import MergeConfig


@dataclass(kw_only=True)
class TokenizerConfig(Section):
    """The tokenizer."""

    path: Name | None = None
    """A local directory or hub name; null: the model's."""
    new_tokens: list[Name] = field(default_factory=list)
    """Control tokens to add, such as those of a chat template ("<|im_start|>"). A pretrained model gets rows for them, each about the mean
    of all others; they are trained by full training and by adapter=lora."""


@dataclass(kw_only=True)
class ModelConfig(Section):
    """A pretrained causal language model (`path`), one that is merged of others (`merge`), or a new one of the given family and shape."""

    path: Name | None = None
    """A local directory or hub name of a pretrained model; when given, the shape below is not read."""
    checkpoint: Name | None = None
    """A run (its directory, its name under runs/, or STUDY/NUMBER) whose last weights the model starts from, adapter included: model and
    adapter must be that run's. Its optimizer and its data are not taken over."""
    merge: MergeConfig = field(default_factory=MergeConfig)
    family: Name = "llama"
    """The transformers model type of a model from scratch: llama, qwen3, mistral, olmo2, smollm3, …"""
    hidden_size: Annotated[Count, MultipleOfKeys(("model.heads", 2))] = 256
    """Width of the residual stream."""
    intermediate_size: Count | None = None
    """Width of the feed-forward layers; null: 8/3 of hidden_size, rounded up to a multiple of 32."""
    layers: Count = 4
    """Transformer blocks."""
    heads: Annotated[Count, MultipleOfKeys(("model.kv_heads",))] = 4
    """Attention heads; must divide hidden_size."""
    kv_heads: Count | None = None
    """Key-value heads; null: as many as heads."""
    max_context: Count = 2048
    """Longest context, in tokens, of a model from scratch."""
    tie_embeddings: bool = True
    """Share the input and output embeddings of a model from scratch."""
    attention_dropout: Annotated[float, Ge(0), Lt(1)] | None = None
    """Dropout in attention; null: as the pretrained model's own configuration says, from scratch 0. Families without a setting of this
    name (gpt2) refuse a value and keep dropouts of their own."""
    liger: bool = False
    """Triton kernels of Liger for norms, rotary embeddings and gated feed-forward layers: less memory and time, on a GPU only. The loss
    stays our own (trainer.loss_chunk_tokens for less memory). Needs pip install 'harness[liger]'."""
    attention: Literal["auto", "varlen", "sdpa", "eager", "flash_attention_2", "flex_attention"] = "auto"
    """How attention is computed. varlen: within each document of packed rows, without a mask; on a GPU by torch's varlen_attn, in half
    precision (trainer.precision) and without attention dropout. sdpa, eager, flash_attention_2, flex_attention: transformers'; these keep
    packed documents apart by masks (flex_attention by blocks of one, and it trains on GPUs only). auto: varlen on a GPU for packed rows in
    half precision, and on a CPU for objective=preference, where a probe finds that model and kernel are up to it; else sdpa, or eager for
    families without."""

    @property
    def frame(self) -> tuple[str, str] | None:
        """Key and path of the model whose configuration and tokenizer this one has; None of a model from scratch."""
        if self.path is not None:
            return "model.path", self.path
        if self.merge.method is None:
            return None
        if self.merge.base is not None:
            return "model.merge.base", self.merge.base
        return next(((f"model.merge.ingredients.{name}.path", one.path) for name, one in self.merge.ingredients.items()), None)
