"""A direction taken out of everything that is written into the residual stream (arXiv 2406.11717).

Written are the embedding, as the first block reads it, and what every block adds, its attention and its MLP each. Taken out of what blocks
return alone, the direction would still be there between attention and MLP. The writers of a block are found on the model itself.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness.config.errors import InputError
from harness.models.blocks import hidden_of, residual_blocks, with_hidden
from harness.models.vocabulary import vocabulary_size

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOLERANCE = 1e-5
"""Of what a block adds, relative to the largest: its writers' outputs sum up to it, but for rounding."""


class Ablation(nn.Module):
    """Takes a share of a direction out of hidden states."""

    def __init__(self, unit_H: Tensor, share: float) -> None:
        super().__init__()
        self.register_buffer("unit", unit_H.clone(), persistent=False)
        self.share, self.is_on = share, True

    def forward(self, hidden_BTH: Tensor) -> Tensor:
        """Hidden states [B, T, H] without it."""
        unit: Tensor = self.unit.to(hidden_BTH.dtype)  # type: ignore[assignment]
        return hidden_BTH - self.share * (hidden_BTH @ unit)[..., None] * unit if self.is_on else hidden_BTH


def add_ablation(model: PreTrainedModel, unit_H: Tensor, share: float) -> None:
    """Take a share of the direction out of all that is written from now on, in place.

    Raises InputError for a model whose blocks add something else than what two of their parts return.
    """
    blocks = residual_blocks(model)
    writers = writers_of(model, blocks)
    if writers is None:
        problem = "what its blocks add is no sum of what two of their parts return"
        raise InputError(f"adapter.operation=ablate: not for this model ({model.config.model_type}): {problem}; valid for it: add")
    ablation = Ablation(unit_H, share)
    model.ablation = ablation  # for its buffer to go where the model goes
    blocks[0].register_forward_pre_hook(_entering(ablation), with_kwargs=True)
    for writer in itertools.chain.from_iterable(writers):
        writer.register_forward_hook(lambda module, args, output: with_hidden(output, ablation(hidden_of(output))))


def _entering(ablation: Ablation) -> Any:
    def enter(block: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if "hidden_states" in kwargs:
            return args, {**kwargs, "hidden_states": ablation(kwargs["hidden_states"])}
        return (ablation(args[0]), *args[1:]), kwargs

    return enter


def writers_of(model: PreTrainedModel, blocks: list[nn.Module]) -> list[tuple[nn.Module, nn.Module]] | None:
    """The two parts of each block whose outputs together are what it adds to the residual stream: attention and MLP, or the norms behind
    them. None of a model with other blocks."""
    seen = [_Seen() for _ in blocks]
    handles = []
    for of_block, block in zip(seen, blocks, strict=True):
        handles.append(block.register_forward_hook(of_block.whole, with_kwargs=True))
        handles += [part.register_forward_hook(of_block.part) for part in block.children()]
    ids = torch.randint(vocabulary_size(model), (1, 8), generator=torch.Generator().manual_seed(0))
    training, whole = model.training, model
    model.train(False)
    try:
        with torch.no_grad():
            whole(input_ids=ids, use_cache=False)
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    found = [of_block.writers() for of_block in seen]
    known = [writers for writers in found if writers is not None]
    return known if len(known) == len(found) else None


class _Seen:
    """What a block and its parts return in one pass."""

    def __init__(self) -> None:
        self._outputs: list[tuple[nn.Module, Tensor]] = []
        self._added = torch.empty(0)

    def part(self, part: nn.Module, args: Any, output: Any) -> None:
        hidden = hidden_of(output)
        if isinstance(hidden, Tensor):
            self._outputs.append((part, hidden))

    def whole(self, block: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        self._added = hidden_of(output) - (kwargs["hidden_states"] if "hidden_states" in kwargs else args[0])

    def writers(self) -> tuple[nn.Module, nn.Module] | None:
        """The two parts whose outputs sum up to what was added."""
        alike = [(part, output) for part, output in self._outputs if output.shape == self._added.shape]
        for (one, first), (other, second) in itertools.combinations(alike, 2):
            if float((first + second - self._added).abs().max()) <= TOLERANCE * float(self._added.abs().max()):
                return one, other
        return None
