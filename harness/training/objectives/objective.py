"""What an objective owns: the documents that it reads, what a step's loss is divided by, its further inputs, and the loss itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor
from transformers import PreTrainedModel

from harness.config.schema import Config
from harness.data.order import Float64
from harness.data.ragged import Int64
from harness.data.tokenization import Documents, Progress
from harness.data.training_data import TrainingData
from harness.models.head import refuse_indivisible_model
from harness.schedule.batch_size import BatchSize

Batch = dict[str, Tensor]


class Objective(ABC):
    """What is learned from what. Light until `load`: whoever asks for data alone loads no model."""

    documents: ClassVar[Documents] = "texts"
    """What the files of its sources, and of validation sets, hold."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def fingerprints(self) -> dict[str, str]:
        """Of further inputs, by what they are: a teacher."""
        return {}

    def prepare(self, data: TrainingData, tokenizer: Any, progress: Progress | None = None, *, rows: int | None = None) -> TrainingData:
        """The data with what the objective adds to its first `rows` rows (None: to all), made now or found in the cache."""
        return data

    def prepared(self, data: TrainingData, rows: int | None) -> dict[str, dict[str, int]]:
        """What `prepare` has put into the cache for these rows, for `harness data`: counts of each further input, by its name."""
        return {}

    def weights(self, data: TrainingData, batch_size: BatchSize, steps: int) -> Int64 | Float64:
        """What the summed loss of each step is divided by: int64 or float64 [steps]. Here its trained tokens."""
        return data.targets_of(batch_size, steps)

    def load(self, model: PreTrainedModel, tokenizer: Any) -> None:
        """Get ready to train the model. Raises InputError for what cannot be used, and for a model whose loss cannot be computed in chunks
        where trainer.loss_chunk_tokens asks for that."""
        chunk = self.config.trainer.loss_chunk_tokens
        if chunk is not None:
            refuse_indivisible_model(model, f"trainer.loss_chunk_tokens={chunk}")

    def begin(self, model: PreTrainedModel) -> None:  # noqa: B027 - most need nothing
        """Called when the model is on its device, before the first step."""

    def begin_step(  # noqa: B027 - most log nothing besides
        self, model: PreTrainedModel, data: TrainingData, start: int, stop: int
    ) -> None:
        """Called on every rank before the first micro-batch of a step, whose rows are at positions start … stop - 1 of the data, on all
        ranks together."""

    def step_metrics(self) -> dict[str, float]:
        """What is logged of the step that just ended besides its loss, by logged name; over all ranks, which ask together."""
        return {}

    @abstractmethod
    def loss_sum(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """Summed loss over what is trained in a micro-batch: float32 [], in nats."""
