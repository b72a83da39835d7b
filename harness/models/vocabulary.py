"""The rows of the input embedding and of the output layer, and new rows for new tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.config.errors import InputError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

NOISE = 0.1
"""Spread of new rows about the mean, in standard deviations of the others."""


def vocabulary_size(model: PreTrainedModel) -> int:
    """Rows of the input embedding."""
    layers: Any = model
    return int(layers.get_input_embeddings().weight.shape[0])


def refuse_unknown_ids(model: PreTrainedModel, tokenizer: Any, largest_id: int, *, path: str | None) -> None:
    """Raise InputError where the text has ids for which the model at `path` has no row.

    By the largest id in use: tokenizers have tokens that no text has, and models rows that no token has.
    """
    rows = vocabulary_size(model)
    if largest_id >= rows:
        where = "the model" if path is None else f"model.path={path}"
        raise InputError(
            f"{where}: it has rows for {rows:,} tokens (ids 0 to {rows - 1:,}), and the text has the token "
            f"{tokenizer.convert_ids_to_tokens(largest_id)!r} (id {largest_id:,}); valid: the model's own tokenizer (tokenizer.path), text "
            "without such tokens, or a model with rows for them"
        )


def vocabulary_layers(model: PreTrainedModel) -> list[Any]:
    """The input embedding, and the output layer where it has weights of its own."""
    layers: Any = model
    embedding, output = layers.get_input_embeddings(), layers.get_output_embeddings()
    return [embedding] if output is None or output.weight is embedding.weight else [embedding, output]


def add_rows(model: PreTrainedModel, ids: Sequence[int], *, seed: int) -> None:
    """Make rows `ids` of the embedding, and of the output layer, those of new tokens: about the mean of all others.

    Rows between, of tokens that the tokenizer had and the model lacked, are made alike.

    With the mean, new tokens are about as likely as others, where random rows can be likelier than all of them (Hewitt 2021). Grows the
    vocabulary where it must; a vocabulary that is padded has room already. Tied layers stay tied.
    """
    import torch

    needed, before = max(ids) + 1, vocabulary_size(model)
    if needed > before:
        model.resize_token_embeddings(needed, mean_resizing=False)
        ids = [*(index for index in range(before, needed) if index not in ids), *ids]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in vocabulary_layers(model):
            _about_the_mean(layer.weight, ids, generator)
            if getattr(layer, "bias", None) is not None:
                layer.bias[list(ids)] = _others(layer.bias, ids).mean()


def _about_the_mean(weight: torch.Tensor, ids: Sequence[int], generator: torch.Generator) -> None:
    import torch

    others = _others(weight, ids)
    noise = torch.randn(len(ids), weight.shape[1], generator=generator).to(weight)
    weight[list(ids)] = others.mean(dim=0) + NOISE * others.std(dim=0) * noise


def _others(weight: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
    """The rows of the tokens before the new ones; later rows are new or padding."""
    return weight[: min(ids)]
