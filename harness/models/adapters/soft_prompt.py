"""Trained embeddings before every document.

They are embeddings of ids below 0, which the data puts before every document; the vocabulary, and so the softmax, stays as it is. So
packed documents stay apart, each with the prompt before it, where peft's prompt tuning would put one prompt before a whole row. Loss and
gradient are those of prompt tuning (Lester et al., arXiv 2104.08691).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness.config.errors import wrong_value
from harness.models.vocabulary import vocabulary_size

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PromptEmbedding(nn.Module):
    """A model's own input embedding, and the prompt's: id -1 - i is row i of the prompt."""

    def __init__(self, base: nn.Module, rows_ND: Tensor) -> None:
        super().__init__()
        self.base = base
        self.prompt = nn.Embedding.from_pretrained(rows_ND, freeze=False)  # type: ignore[no-untyped-call]

    @property
    def weight(self) -> Tensor:
        """The vocabulary's rows, which transformers and others ask for."""
        weight: Tensor = self.base.weight  # type: ignore[assignment]
        return weight

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings [*, D] of ids int64[*]."""
        own = self.base(ids.clamp(min=0))
        prompt = self.prompt((-1 - ids).clamp(min=0))
        # Some families scale within their embedding.
        scale = getattr(self.base, "embed_scale", None)
        return torch.where((ids < 0)[..., None], (prompt if scale is None else prompt * scale).to(own.dtype), own)


def prompt_length(model: nn.Module) -> int:
    """Length of the soft prompt of a model; 0 without one."""
    return next((module.prompt.num_embeddings for module in model.modules() if isinstance(module, PromptEmbedding)), 0)


def add_soft_prompt(
    model: PreTrainedModel, tokens: int, text: str | None, tokenizer: Any, *, generator: torch.Generator
) -> PromptEmbedding:
    """Give the model a soft prompt, in place: it begins as the embeddings of `text`, repeated or cut to its length, or of random tokens.

    Raises InputError for a text without tokens.
    """
    if text is None:
        ids = torch.randint(min(len(tokenizer), vocabulary_size(model)), (tokens,), generator=generator)
    else:
        found = tokenizer(text, add_special_tokens=False)["input_ids"]
        if not found:
            raise wrong_value("adapter.init_text", repr(text), "has no tokens")
        ids = torch.tensor([found[index % len(found)] for index in range(tokens)])
    base: Any = model.get_input_embeddings()
    embedding = PromptEmbedding(base, base.weight.detach()[ids].clone())
    model.set_input_embeddings(embedding)
    return embedding
