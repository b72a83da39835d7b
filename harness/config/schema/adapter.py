"""Which weights are trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Lt

from harness.config.schema.base import Count, Name, OnlyFor, Positive, Section


@dataclass(kw_only=True)
class AdapterConfig(Section):
    """Which weights are trained: all of the model's, or a few added ones over a frozen model."""

    name: Literal["none", "lora", "soft_prompt"] = "none"
    """none: all weights of the model. lora: low-rank updates of its matrices (arXiv 2106.09685), through peft; their best learning rate is
    commonly about 10 times that of full training. soft_prompt: `tokens` embeddings before every document, nothing else (arXiv
    2104.08691)."""
    variant: Annotated[Literal["plain", "rslora", "dora", "pissa"], OnlyFor(("lora",))] = "plain"
    """plain: the update is alpha / rank · B·A. rslora: scaled by alpha / sqrt(rank) (arXiv 2312.03732), so that what an alpha means depends
    on the rank. dora: direction and magnitude apart (arXiv 2402.09353). pissa: B·A begins as the principal components of each matrix,
    which are taken out of it (arXiv 2404.02948; by a randomised SVD of 16 iterations)."""
    rank: Annotated[Count, OnlyFor(("lora",))] = 16
    """Rank of the updates. Weight decay (optim.weight_decay) is on A and B: it pulls the update, not the model, towards zero."""
    alpha: Annotated[Positive, OnlyFor(("lora",))] = 32.0
    """Scale of the updates, see variant."""
    dropout: Annotated[float, Ge(0), Lt(1), OnlyFor(("lora",))] = 0.0
    """Dropout before A."""
    target_modules: Annotated[list[Name] | None, OnlyFor(("lora",))] = None
    """Names of the layers that are updated, such as [q_proj, v_proj]; null: all linear layers but the output layer."""
    train_tokens: Annotated[list[Name], OnlyFor(("lora",))] = field(default_factory=list)
    """Tokens whose embeddings are trained besides those of tokenizer.new_tokens (and their rows of the output layer): control tokens that a
    model has, but was never trained on."""
    tokens: Annotated[int, Ge(0), OnlyFor(("lora", "soft_prompt"))] = 0
    """Length of the soft prompt: trained embeddings that every document begins with, or, where it is split, every piece of it. They take
    room in the rows (and in the model's context: data.context_length + tokens must fit into it, since evaluation puts them before whole
    windows), but are never predicted, nor counted as tokens; a document's first own token is not predicted either, so that losses are of
    the same tokens as without. With lora they are trained beside it."""
    init_text: Annotated[Name | None, OnlyFor(("lora", "soft_prompt"))] = None
    """The soft prompt begins as this text's embeddings, repeated or cut to its length; null: as those of random tokens."""
