"""A transformers model as evaluation sets see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from harness.config.errors import InputError
from harness.config.schema import SamplingConfig
from harness.data.labels import IGNORED
from harness.data.prompt import prompt_ids
from harness.data.ragged import Int64
from harness.evaluation.evaluation_set import Advance, Bools, Float64
from harness.generation.engine import SHARD_ROWS, Engine
from harness.generation.rows import Draw, Generation, Limits, NonFiniteLogitsError, Prompt
from harness.models.adapters.soft_prompt import prompt_length
from harness.models.answer_tokens import telling_answers
from harness.training import ranks
from harness.training.divergences import kl_by_row
from harness.training.predictions import answers_by
from harness.training.run_errors import NonFiniteLossError

T = TypeVar("T")
U = TypeVar("U")
Precision = Callable[[], AbstractContextManager[None]]
BuildEngine = Callable[[PreTrainedModel], Engine]
Base = Callable[[PreTrainedModel], AbstractContextManager[PreTrainedModel]]
"""A model's base, within a context in which it may be computed, see `harness.training.base`."""


class EvaluatedModel:
    """A model under evaluation, see `harness.evaluation.evaluation_set.LanguageModel`; made by `evaluated`."""

    def __init__(
        self, model: PreTrainedModel, batch_tokens: int, build_engine: BuildEngine | None, base: Base | None, *, alone: bool
    ) -> None:
        self._model, self._base = model, base
        self._alone = alone
        self.batch_tokens = batch_tokens
        self._build_engine = build_engine

    def over(self, batches: Iterable[T], measure: Callable[[T], U]) -> Iterator[U]:
        return map(measure, batches) if self._alone else ranks.shared_out(iter(batches), measure)

    def losses(self, input_ids: Int64, labels: Int64) -> Float64:
        return self._losses(*self._logits_and_labels(input_ids, labels))

    def losses_and_hits(self, input_ids: Int64, labels: Int64) -> tuple[Float64, Bools]:
        logits_BLV, labels_BL = self._logits_and_labels(input_ids, labels)
        hits: Bools = (logits_BLV.argmax(dim=-1) == labels_BL).cpu().numpy()
        return self._losses(logits_BLV, labels_BL), hits

    def losses_beside_base(self, input_ids: Int64, labels: Int64) -> tuple[Float64, Float64, Float64]:
        assert self._base is not None, "given with data.kl"
        logits_BLV, labels_BL = self._logits_and_labels(input_ids, labels)
        with self._base(self._model) as base:
            base_BLV = self._logits(base, input_ids, labels_BL)
        if base_BLV.shape != logits_BLV.shape:
            rows, own = base_BLV.shape[-1], logits_BLV.shape[-1]
            raise InputError(f"data.kl=true: the base has a vocabulary of {rows:,} tokens, the model one of {own:,}; valid: false")
        found, is_scored = np.zeros(labels.shape), labels_BL != IGNORED
        found[labels != IGNORED] = kl_by_row(base_BLV[is_scored], logits_BLV[is_scored]).cpu().double().numpy()
        return self._losses(logits_BLV, labels_BL), found, self._losses(base_BLV, labels_BL)

    def _logits_and_labels(self, input_ids: Int64, labels: Int64) -> tuple[Tensor, Tensor]:
        labels_BL = torch.from_numpy(labels).to(self._model.device)
        return self._logits(self._model, input_ids, labels_BL), labels_BL

    @staticmethod
    def _logits(model: PreTrainedModel, input_ids: Int64, labels_BL: Tensor) -> Tensor:
        """[B, L, V]"""
        # A soft prompt belongs before every text, here as in training: what is predicted stays the same, and what it is predicted from.
        prompt = prompt_length(model)
        positions = np.broadcast_to(np.arange(prompt, dtype=np.int64), (len(input_ids), prompt))
        given = torch.from_numpy(np.hstack([prompt_ids(positions), input_ids])).to(model.device)
        whole: Any = model
        # Padding is on the right, where causal attention does not look: no mask needed.
        with telling_answers(model, lambda: answers_by(labels_BL)):
            logits_BLV: Tensor = whole(input_ids=given, use_cache=False).logits[:, prompt:]
        return logits_BLV

    @staticmethod
    def _losses(logits_BLV: Tensor, labels_BL: Tensor) -> Float64:
        losses = F.cross_entropy(logits_BLV.flatten(0, 1).float(), labels_BL.flatten(), ignore_index=IGNORED, reduction="none")
        found: Float64 = losses.view(labels_BL.shape).cpu().double().numpy()
        return found

    @cached_property
    def engine(self) -> Engine:
        """What writes with this model, in the precision in which it is evaluated."""
        assert self._build_engine is not None, "given where there is something to write"
        return self._build_engine(self._model)

    def write(
        self, prompts: Sequence[Prompt], *, draws: int, limits: Limits, advance: Advance, sampling: SamplingConfig | None = None
    ) -> list[Generation]:
        engine = self.engine if sampling is None else self.engine.with_sampling(sampling)
        # Without noise all draws are the same text: one is written, and counts for all.
        drawn = 1 if engine.is_greedy else draws
        rows = [Draw(prompt, draw) for prompt in prompts for draw in range(drawn)]
        written: dict[tuple[str, int], Generation] = {}
        try:
            for texts in self._written(engine, rows, limits):
                written.update(((one.id, one.draw), one) for one in texts)
                advance(len(texts) * draws // drawn)
        except NonFiniteLogitsError as error:
            raise NonFiniteLossError(str(error)) from error
        return [replace(written[prompt.id, draw % drawn], draw=draw) for prompt in prompts for draw in range(draws)]

    def _written(self, engine: Engine, rows: Sequence[Draw], limits: Limits) -> Iterator[list[Generation]]:
        """The texts of all rows, some at a time; on every rank."""
        # Lots of which every rank writes one at a time, so that all know how far they are.
        shards = engine.shards(rows, parts=ranks.size() * -(-len(rows) // (SHARD_ROWS * ranks.size())))
        if ranks.size() > 1 and not _is_spread(self._model):
            yield from ranks.shared_out(iter(shards), lambda shard: list(engine.write(shard, limits)))
            return
        # Ranks that hold a part of every weight read everything together.
        for shard in shards if ranks.size() > 1 or not engine.is_exact else [rows]:
            for one in engine.write(shard, limits):
                yield [one]


def _is_spread(model: PreTrainedModel) -> bool:
    """Whether each rank holds a part of every weight (trainer.strategy=fsdp2)."""
    from torch.distributed.fsdp import FSDPModule

    return any(isinstance(module, FSDPModule) for module in model.modules())


@contextmanager
def evaluated(
    model: PreTrainedModel,
    *,
    batch_tokens: int,
    precision: Precision = nullcontext,
    build_engine: BuildEngine | None = None,
    base: Base | None = None,
    alone: bool = False,
) -> Iterator[EvaluatedModel]:
    """The model without dropout and gradients, in this precision; its mode is restored. build_engine: given where it is to write; base:
    where it is to be compared; alone: whether this rank measures everything, without the others."""
    training = model.training
    model.train(False)
    try:
        with torch.no_grad(), precision():
            yield EvaluatedModel(model, batch_tokens, build_engine, base, alone=alone)
    finally:
        model.train(training)
