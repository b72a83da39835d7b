"""A transformers model as evaluation sets see it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import PreTrainedModel

from harness.data.labels import IGNORED
from harness.data.prompt import prompt_ids
from harness.evaluation.evaluation_set import Float64
from harness.models.adapters.soft_prompt import prompt_length
from harness.training import ranks

T = TypeVar("T")
U = TypeVar("U")
Precision = Callable[[], AbstractContextManager[None]]


class EvaluatedModel:
    """A model under evaluation, see `harness.evaluation.evaluation_set.LanguageModel`; made by `evaluated`."""

    def __init__(self, model: PreTrainedModel, batch_tokens: int) -> None:
        self._model = model
        self.batch_tokens = batch_tokens

    def over(self, batches: Iterable[T], measure: Callable[[T], U]) -> Iterator[U]:
        return ranks.shared_out(iter(batches), measure)

    def losses(self, input_ids: NDArray[np.int64], labels: NDArray[np.int64]) -> Float64:
        # A soft prompt belongs before every text, here as in training: what is predicted stays the same, and what it is predicted from.
        prompt = prompt_length(self._model)
        positions = np.broadcast_to(np.arange(prompt, dtype=np.int64), (len(input_ids), prompt))
        given = torch.from_numpy(np.hstack([prompt_ids(positions), input_ids])).to(self._model.device)
        # Padding is on the right, where causal attention does not look: no mask needed.
        logits_BLV = self._model(input_ids=given, use_cache=False).logits[:, prompt:]
        labels_BL = torch.from_numpy(labels).to(self._model.device)
        losses = F.cross_entropy(logits_BLV.flatten(0, 1).float(), labels_BL.flatten(), ignore_index=IGNORED, reduction="none")
        found: Float64 = losses.view(labels_BL.shape).cpu().double().numpy()
        return found


@contextmanager
def evaluated(model: PreTrainedModel, *, batch_tokens: int, precision: Precision = nullcontext) -> Iterator[EvaluatedModel]:
    """The model without dropout and gradients, in this precision; its mode is restored."""
    training = model.training
    model.train(False)
    try:
        with torch.no_grad(), precision():
            yield EvaluatedModel(model, batch_tokens)
    finally:
        model.train(training)
