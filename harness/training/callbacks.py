"""The callbacks that a configuration names (trainer.callbacks), and early stopping by what a run logs."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch import callbacks as lightning_callbacks

from harness.config.checks.trainer import CALLBACK_ARGUMENTS, CALLBACKS
from harness.config.errors import InputError
from harness.config.schema import Config
from harness.runs.metrics import Row


class EarlyStopping(lightning_callbacks.EarlyStopping):
    """Lightning's, which looks at each row that holds its metric: evaluations are no validation loop of Lightning's.

    Its patience counts such rows. It looks before a checkpoint of the row's step is saved, so that a resumed run stops where it would have.
    """

    def look(self, trainer: Trainer, row: Row) -> None:
        """Stop the run after this row, if that is due. All ranks call it with the same row."""
        value = row.get(self.monitor)
        if value is None:
            return
        due, self.stopping_reason_message = self._evaluate_stopping_criteria(torch.tensor(value))
        if trainer.strategy.reduce_boolean_decision(due, all=False):
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing: rows are looked at."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing: rows are looked at."""


def build_callbacks(config: Config) -> list[Callback]:
    """Those of trainer.callbacks. Raises InputError for arguments that a callback does not take."""
    return [_build(f"trainer.callbacks.{key}", given) for key, given in config.trainer.callbacks.items()]


def _build(key: str, given: dict[str, Any]) -> Callback:
    """A class by its name alone: no dotted path of a configuration is ever followed."""
    name = given["_target_"].removeprefix(CALLBACKS)
    assert name in CALLBACK_ARGUMENTS, "checked"
    made = EarlyStopping if name == "EarlyStopping" else getattr(lightning_callbacks, name)
    try:
        built: Callback = made(**{argument: value for argument, value in given.items() if argument != "_target_"})
    except (TypeError, ValueError, AttributeError, MisconfigurationException, ModuleNotFoundError) as error:
        raise InputError(f"{key}: {name} does not take these arguments: {' '.join(str(error).split())}") from error
    return built
