"""One pass over contrast pairs: the directions of all blocks, by all methods and readings, and how well the pairs agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from harness.config.schema import SteeringMethod, SteeringReading
from harness.models.blocks import hidden_of, residual_blocks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

READINGS: tuple[SteeringReading, ...] = ("last", "answer")


@dataclass(frozen=True)
class Tokens:
    """A text as token ids."""

    ids: np.ndarray
    """int64 [T]."""
    is_answer: np.ndarray
    """bool [T]: which of them belong to the continuation."""


@dataclass(frozen=True)
class Extraction:
    """What was found in all L blocks, in the units of their outputs."""

    vectors: dict[tuple[SteeringMethod, SteeringReading], Tensor]
    """float32 [L, H]. mean_difference: as it is. pca: a unit vector times the mean of the differences' parts along it."""
    norms: Tensor
    """float32 [L]: mean norm of the block's output over all tokens but the first of a text, which is often an outlier."""
    agreement: dict[SteeringReading, Tensor]
    """float32 [L]: mean cosine of a pair's difference to the mean difference; foretells how well steering works (arXiv 2505.22637)."""
    opposed: dict[SteeringReading, Tensor]
    """float32 [L]: share of pairs whose difference points against the mean of the others."""
    pairs: int

    def tensors(self) -> dict[str, Tensor]:
        """As they are stored, by name."""
        return {
            **{f"{method}.{reading}": vectors for (method, reading), vectors in self.vectors.items()},
            **{f"agreement.{reading}": values for reading, values in self.agreement.items()},
            **{f"opposed.{reading}": values for reading, values in self.opposed.items()},
            "norms": self.norms,
            "pairs": torch.tensor(self.pairs),
        }

    @classmethod
    def of_tensors(cls, tensors: dict[str, Tensor]) -> Extraction:
        """From what `tensors` gave."""
        return cls(
            vectors={(method, reading): tensors[f"{method}.{reading}"] for method in METHODS for reading in READINGS},
            norms=tensors["norms"],
            agreement={reading: tensors[f"agreement.{reading}"] for reading in READINGS},
            opposed={reading: tensors[f"opposed.{reading}"] for reading in READINGS},
            pairs=int(tensors["pairs"]),
        )


def extract(model: PreTrainedModel, sides: Sequence[Tokens], *, batch_tokens: int, advance: Callable[[int], None]) -> Extraction:
    """Read all pairs once. sides: their positive and negative texts in turn; advance: told how many texts were read.

    The model is in evaluation mode and steers nothing. Raises InputError for a model whose blocks cannot be found.
    """
    recorder = _Recorder(len(residual_blocks(model)), len(sides))
    handles = [
        block.register_forward_hook(lambda module, args, output, index=index: recorder.record(index, hidden_of(output)))
        for index, block in enumerate(residual_blocks(model))
    ]
    try:
        with torch.no_grad():
            for chosen in _batches([len(side.ids) for side in sides], batch_tokens):
                ids = recorder.begin(chosen, [sides[index] for index in chosen], model.device)
                whole: Any = model
                # Padding is on the right, where causal attention does not look: no mask needed.
                whole(input_ids=ids, use_cache=False)
                advance(len(chosen))
    finally:
        for handle in handles:
            handle.remove()
    return _extraction(recorder)


def _batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """All texts, the longest first, at most batch_tokens positions at a time (but at least one text)."""
    order = np.argsort(-np.array(lengths), kind="stable").tolist()
    while order:
        count = max(1, batch_tokens // lengths[order[0]])
        yield order[:count]
        order = order[count:]


class _Recorder:
    """What is kept of the blocks' outputs."""

    def __init__(self, blocks: int, texts: int) -> None:
        self.states: dict[SteeringReading, list[Tensor | None]] = {reading: [None] * blocks for reading in READINGS}
        """By block float32 [texts, H], once the first batch was read."""
        self.norm_sums, self.norm_counts = torch.zeros(blocks, dtype=torch.float64), 0
        self._texts = texts

    def begin(self, chosen: list[int], sides: list[Tokens], device: torch.device) -> Tensor:
        """Get ready for a batch of these texts. Returns their ids int64 [B, T]."""
        longest = max(len(side.ids) for side in sides)
        ids, answers = np.zeros((len(sides), longest), dtype=np.int64), np.zeros((len(sides), longest), dtype=np.bool_)
        lengths = torch.tensor([len(side.ids) for side in sides], device=device)
        for row, side in enumerate(sides):
            ids[row, : len(side.ids)], answers[row, : len(side.ids)] = side.ids, side.is_answer
        self._chosen = torch.tensor(chosen)
        self._answers_BT = torch.from_numpy(answers).to(device)
        # The last token of a turn may be followed by what closes it.
        self._last_B = (self._answers_BT * torch.arange(longest, device=device)).argmax(dim=1)
        positions = torch.arange(longest, device=device)
        self._measured_BT = (positions > 0) & (positions < lengths[:, None])
        self.norm_counts += int(self._measured_BT.sum())
        return torch.from_numpy(ids).to(device)

    def record(self, block: int, hidden_BTH: Tensor) -> None:
        hidden = hidden_BTH.detach().float()
        rows = torch.arange(len(hidden), device=hidden.device)
        counts = self._answers_BT.sum(dim=1, keepdim=True).float()
        found: dict[SteeringReading, Tensor] = {
            "last": hidden[rows, self._last_B],
            # Not by a product with zeros, which would let what is not finite in padding through.
            "answer": hidden.masked_fill(~self._answers_BT[..., None], 0).sum(dim=1) / counts,
        }
        for reading, states in found.items():
            if self.states[reading][block] is None:
                self.states[reading][block] = torch.empty(self._texts, hidden.shape[-1], dtype=torch.float32)
            self.states[reading][block][self._chosen] = states.cpu()  # type: ignore[index]
        self.norm_sums[block] += float(hidden.norm(dim=-1)[self._measured_BT].double().sum())


def _extraction(recorder: _Recorder) -> Extraction:
    vectors: dict[tuple[SteeringMethod, SteeringReading], Tensor] = {}
    agreement: dict[SteeringReading, Tensor] = {}
    opposed: dict[SteeringReading, Tensor] = {}
    pairs = 0
    for reading, states in recorder.states.items():
        differences = [(of_block[0::2] - of_block[1::2]).double() for of_block in states if of_block is not None]
        pairs = len(differences[0])
        for method, find in METHODS.items():
            vectors[method, reading] = torch.stack([find(of_block) for of_block in differences]).float()
        agreement[reading] = torch.tensor([pair_agreement(of_block) for of_block in differences], dtype=torch.float32)
        opposed[reading] = torch.tensor([opposed_share(of_block) for of_block in differences], dtype=torch.float32)
    return Extraction(vectors, (recorder.norm_sums / recorder.norm_counts).float(), agreement, opposed, pairs)


def mean_difference(differences_NH: Tensor) -> Tensor:
    """The mean of positive minus negative (arXiv 2312.06681): [H]."""
    return differences_NH.mean(dim=0)


def principal_component(differences_NH: Tensor) -> Tensor:
    """The first principal component of the differences, not centred, towards their mean, as long as the mean of their parts along it: [H].

    Centred, what all differences have in common, which is what is looked for, would be taken out (arXiv 2310.01405 has them not centred,
    but of random sign).
    """
    unit = torch.linalg.svd(differences_NH, full_matrices=False).Vh[0]
    vector: Tensor = (differences_NH @ unit).mean() * unit
    return vector


METHODS: dict[SteeringMethod, Callable[[Tensor], Tensor]] = {"mean_difference": mean_difference, "pca": principal_component}
"""But `random`, which needs no pairs."""


def pair_agreement(differences_NH: Tensor) -> float:
    """Mean cosine of the differences to their mean; 0 of a difference of zero."""
    mean = differences_NH.mean(dim=0, keepdim=True)
    return float(torch.cosine_similarity(differences_NH, mean, dim=1).mean())


def opposed_share(differences_NH: Tensor) -> float:
    """Share of differences whose product with the mean of the others is below 0; of one alone 0."""
    others = differences_NH.sum(dim=0, keepdim=True) - differences_NH
    return float(((differences_NH * others).sum(dim=1) < 0).double().mean())


def random_direction(width: int, *, draw: int, block: int) -> Tensor:
    """A unit vector float32 [width], drawn for this draw and block: equal on every machine."""
    generator = np.random.Generator(np.random.Philox(key=[draw, block]))
    numbers = generator.standard_normal(width)
    unit: Tensor = torch.from_numpy(numbers / np.linalg.norm(numbers)).float()
    return unit
