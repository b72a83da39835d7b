"""A direction added behind blocks of a model, or taken out of what is written into its residual stream.

Adding is behind a block (contrastive activation addition, arXiv 2312.06681): every block has its own direction, as long as the coefficient
says in units of the mean norm of the block's output. Taking out is in `ablation.py`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness.config.errors import InputError, wrong_value
from harness.config.schema import AdapterConfig, SteeringOperation, SteeringPositions
from harness.models.adapters.ablation import Ablation, add_ablation
from harness.models.answer_tokens import AnswerTokens, telling_answers
from harness.models.blocks import hidden_of, residual_blocks, with_hidden
from harness.models.steering.extraction import random_direction
from harness.models.vocabulary import vocabulary_size

if TYPE_CHECKING:
    from transformers import PreTrainedModel

COEFFICIENTS: dict[SteeringOperation, float] = {"add": 0.2, "ablate": 1.0}
"""adapter.coefficient where it is null."""
TOLERANCE = 1e-4
"""Of what the probe compares, relative to the largest: rounding is about 1e-7."""
LENGTH = 4
"""Tokens of each of the two documents that the probe reads."""


@dataclass(frozen=True)
class Directions:
    """What may be steered along, from contrast pairs or from a vector file."""

    vectors: Mapping[int, Tensor]
    """Raw directions by block: float32 [H]. Of a file perhaps not of every block."""
    norms: Tensor
    """float32 [L]: mean norm of each block's output."""
    operation: SteeringOperation = "add"
    positions: SteeringPositions = "all"
    coefficients: Mapping[int, float] | None = None
    """Of a file: its own, by block."""
    agreement: Sequence[float] = ()
    opposed: Sequence[float] = ()
    """Of every block, see `Extraction`."""


@dataclass(frozen=True)
class Steering:
    """Where a model is steered, along what, and how much."""

    operation: SteeringOperation
    positions: SteeringPositions
    units: dict[int, Tensor]
    """Unit vectors float32 [H], by block."""
    coefficients: dict[int, float]
    """By block."""
    norms: Tensor
    """float32 [L]."""

    def added(self, block: int) -> Tensor:
        """What is added behind a block: float32 [H]."""
        return self.coefficients[block] * self.norms[block] * self.units[block]


def plan_steering(adapter: AdapterConfig, directions: Directions) -> Steering:
    """What the configuration says of these directions. Raises InputError for a block that does not exist or has no direction."""
    blocks = len(directions.norms)
    if adapter.block is not None and adapter.block >= blocks:
        raise wrong_value("adapter.block", adapter.block, f"the model has {blocks} blocks; valid: 0 to {blocks - 1}")
    operation = adapter.operation or directions.operation
    own = directions.coefficients if operation == directions.operation else None
    amount = adapter.coefficient
    if own and adapter.block is None and adapter.width == 0:
        coefficients = dict(own) if amount is None else _scaled(own, amount)
    else:
        amount = COEFFICIENTS[operation] if amount is None else amount
        shares = kernel(_centre(adapter, directions), adapter.width if operation == "add" else 0, blocks)
        coefficients = {block: amount * share for block, share in shares.items()}
    if operation == "ablate" and adapter.sign != 1:  # as a vector file says; of the key it was known before
        raise wrong_value("adapter.sign", adapter.sign, "the direction is taken out, which has no sign; valid: 1")
    coefficients = {block: adapter.sign * amount for block, amount in coefficients.items()}
    units = {block: _unit(adapter, directions, block) for block in coefficients}
    return Steering(operation, adapter.positions or directions.positions, units, coefficients, directions.norms)


def shares_coefficient(adapter: AdapterConfig, own: Mapping[int, float], operation: SteeringOperation) -> bool:
    """Whether adapter.coefficient is shared out among several blocks of a vector file. own, operation: what the file says."""
    is_own = adapter.block is None and adapter.width == 0 and adapter.operation in (None, operation)
    return adapter.coefficient is not None and is_own and len(own) > 1


def _centre(adapter: AdapterConfig, directions: Directions) -> int:
    if adapter.block is not None:
        return adapter.block
    own = directions.coefficients
    return len(directions.norms) // 2 if not own else _strongest(own)


def _strongest(coefficients: Mapping[int, float]) -> int:
    return max(coefficients, key=lambda block: abs(coefficients[block]))


def _scaled(own: Mapping[int, float], amount: float) -> dict[int, float]:
    """A file's blocks with `amount` between them, shared out as they were; the strongest has its sign."""
    whole = math.copysign(sum(map(abs, own.values())), own[_strongest(own)])
    return {block: amount * (coefficient / whole if whole else 1 / len(own)) for block, coefficient in own.items()}


def kernel(centre: int, width: int, blocks: int) -> dict[int, float]:
    """Shares of the blocks about `centre`, which sum to 1: a triangle that ends behind `width` neighbours, cut where the model ends."""
    heights = {block: width + 1 - abs(block - centre) for block in range(max(0, centre - width), min(blocks, centre + width + 1))}
    return {block: height / sum(heights.values()) for block, height in heights.items()}


def _unit(adapter: AdapterConfig, directions: Directions, block: int) -> Tensor:
    if adapter.method == "random":
        width = len(next(iter(directions.vectors.values())))
        return random_direction(width, draw=adapter.draw, block=block)
    if block not in directions.vectors:
        valid = ", ".join(map(str, sorted(directions.vectors)))
        raise InputError(f"adapter.vector={adapter.vector}: it has no direction for block {block}; valid for adapter.block: {valid}")
    vector = directions.vectors[block]
    norm = float(vector.norm())
    if norm == 0:
        raise InputError(f"adapter.block={block}: the pairs do not differ there, its direction is zero; valid: another block, other pairs")
    return vector / norm


class SteeringVector(nn.Module):
    """What is added to the hidden states behind a block."""

    def __init__(self, vector_H: Tensor, norm: float, positions: SteeringPositions, answers: AnswerTokens) -> None:
        """Args: vector_H: in units of `norm`, the mean norm of the block's output; answers: what the model is told of its tokens."""
        super().__init__()
        self.vector = nn.Parameter(vector_H.clone())
        self.norm, self.positions, self.is_on = norm, positions, True
        self._answers = answers

    def forward(self, hidden_BTH: Tensor, position_ids: Tensor | None) -> Tensor:
        """The hidden states [B, T, H] with the vector. position_ids: int64 [B or 1, T], from 0 in every document."""
        if not self.is_on:
            return hidden_BTH
        added = (self.norm * self.vector).to(hidden_BTH.dtype)
        if self.positions == "all":
            return hidden_BTH + added
        return hidden_BTH + added * self._steered(position_ids)[..., None]

    def _steered(self, position_ids: Tensor | None) -> Tensor:
        """At which tokens: bool [B or 1, T]."""
        answer = self._answers.mask_BT
        if answer is None or self.positions == "not_first":
            if position_ids is None:
                raise InputError(f"adapter.positions={self.positions}: the blocks of this model are not told positions; valid for it: all")
            # Of plain text, which is what is read where nothing was told, all but the first token is predicted.
            answer = position_ids != 0
        return ~answer if self.positions == "prompt" else answer


def add_steering(model: PreTrainedModel, steering: Steering) -> None:
    """Freeze the model and steer it from now on, in place; what is added are the only trained weights.

    Raises InputError for directions of another width, and for a model that cannot be steered so.
    """
    model.requires_grad_(False)
    blocks = residual_blocks(model)
    if len(blocks) != len(steering.norms):
        raise InputError(f"adapter.vector: it is of a model of {len(steering.norms)} blocks, this one has {len(blocks)}; valid: its own")
    width, own = int(model.config.get_text_config().hidden_size), len(next(iter(steering.units.values())))
    if width != own:
        raise InputError(f"adapter.vector: its directions have {own} numbers, this model's hidden states {width}; valid: its own")
    if steering.operation == "ablate":
        ((block, share),) = steering.coefficients.items()
        add_ablation(model, steering.units[block], share)
        return
    answers = AnswerTokens()
    if steering.positions in ("answer", "prompt"):
        model.answer_tokens = answers  # type: ignore[assignment]
    for block, unit in steering.units.items():
        vector = SteeringVector(steering.coefficients[block] * unit, float(steering.norms[block]), steering.positions, answers)
        blocks[block].steering = vector
        blocks[block].register_forward_hook(_steer, with_kwargs=True)
    _probe(model, blocks, steering_vectors(model))


def _steer(block: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
    return with_hidden(output, block.steering(hidden_of(output), kwargs.get("position_ids")))


@contextmanager
def without_steering(model: nn.Module) -> Iterator[None]:
    """Within it the model is as it was before it was steered."""
    parts = [module for module in model.modules() if isinstance(module, SteeringVector | Ablation)]
    for part in parts:
        part.is_on = False
    try:
        yield
    finally:
        for part in parts:
            part.is_on = True


def steering_vectors(model: PreTrainedModel) -> dict[int, SteeringVector]:
    """What is added behind blocks, by block; {} of a model that is not steered so."""
    found = {index: getattr(block, "steering", None) for index, block in enumerate(residual_blocks(model))}
    return {index: vector for index, vector in found.items() if isinstance(vector, SteeringVector)}


def steering_in(model: PreTrainedModel, planned: Steering) -> Steering:
    """How the model is steered by now: as planned, or as its vectors were trained since."""
    units, coefficients = dict(planned.units), dict(planned.coefficients)
    for block, vector in steering_vectors(model).items():
        value = vector.vector.detach().float().cpu()
        if torch.equal(value, planned.coefficients[block] * planned.units[block]):
            continue
        # Towards the planned direction, so that a coefficient keeps its sign.
        coefficients[block] = math.copysign(float(value.norm()), float(value @ planned.units[block]))
        if coefficients[block] != 0:
            units[block] = value / coefficients[block]
    return replace(planned, units=units, coefficients=coefficients)


def _probe(model: PreTrainedModel, blocks: list[nn.Module], vectors: dict[int, SteeringVector]) -> None:
    """Make sure that what is added arrives behind each block as it should, in a row of two documents, and reaches the logits.

    Raises InputError where it does not: steering would silently do nothing, or something else.
    """
    place = torch.arange(LENGTH).repeat(2)
    is_answer = place >= LENGTH // 2
    acts: dict[SteeringPositions, Tensor] = {
        "all": torch.ones_like(is_answer),
        "not_first": place != 0,
        "answer": is_answer,
        "prompt": ~is_answer,
    }
    with without_steering(model):
        plain, plain_logits = _behind(model, blocks)
    for index, vector in vectors.items():
        kept = vector.vector.detach().clone()
        with _alone(model, vector):
            vector.vector.data = random_direction(len(kept), draw=0, block=index).to(kept)
            expected = vector.norm * vector.vector.detach() * acts[vector.positions][:, None]
            with telling_answers(model, lambda: is_answer[None]):
                found, logits = _behind(model, blocks)
            vector.vector.data = kept
        moved = found[index] - plain[index]
        deviation = float((moved - expected).abs().max()) / max(float(found[index].abs().max()), 1e-30)
        if deviation > TOLERANCE or torch.equal(logits, plain_logits):
            what = f"differs by {deviation:.2g} of the largest" if deviation > TOLERANCE else "does not reach the logits"
            raise InputError(f"adapter=steering: not for this model ({model.config.model_type}): what is added behind block {index} {what}")


def _behind(model: PreTrainedModel, blocks: list[nn.Module]) -> tuple[list[Tensor], Tensor]:
    """The hidden states [2 LENGTH, H] that the next block reads, of the last one those that it returns; and the logits."""
    found: list[Tensor] = []
    handles = [block.register_forward_pre_hook(_recording(found), with_kwargs=True) for block in blocks[1:]]
    handles.append(blocks[-1].register_forward_hook(lambda block, args, output: found.append(hidden_of(output))))
    ids = torch.randint(vocabulary_size(model), (1, 2 * LENGTH), generator=torch.Generator().manual_seed(0))
    known = inspect.signature(model.forward).parameters
    given = {"position_ids": torch.arange(LENGTH).repeat(2)[None]} if "position_ids" in known else {}
    training, whole = model.training, model
    model.train(False)
    try:
        with torch.no_grad():
            logits: Tensor = whole(input_ids=ids, use_cache=False, **given).logits
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    width = int(model.config.get_text_config().hidden_size)
    if [hidden.shape for hidden in found] != [(1, 2 * LENGTH, width)] * len(blocks):
        problem = f"its blocks do not pass on hidden states of {width} numbers a token"
        raise InputError(f"adapter=steering: not for this model ({model.config.model_type}): {problem}")
    return [hidden[0] for hidden in found], logits


def _recording(found: list[Tensor]) -> Any:
    def record(block: Any, args: Any, kwargs: dict[str, Any]) -> None:
        found.append(kwargs["hidden_states"] if "hidden_states" in kwargs else args[0])

    return record


@contextmanager
def _alone(model: nn.Module, vector: SteeringVector) -> Iterator[None]:
    """Within it, this is all that is added."""
    with without_steering(model):
        vector.is_on = True
        yield
