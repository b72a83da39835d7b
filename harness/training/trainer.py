"""Lightning's Trainer as a run needs it."""

from __future__ import annotations

import logging
import warnings
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.loggers import Logger
from torch.utils.data import DataLoader

from harness.config.schema import Config
from harness.data.dataset import build_loader
from harness.runs.directory import RunDirectory
from harness.training import ranks
from harness.training.checkpoints import AtomicCheckpointIO
from harness.training.loggers import MetricLogger
from harness.training.plan import Plan
from harness.training.strategy import build_strategy

NOT_WORTH_SAYING = (
    r".*does not have many workers.*",  # rows are cut from a memory map: workers would only cost
    r".*`srun` command is available.*",  # one rank needs none, and several are started by us or by srun itself
    r".*`val_dataloaders`.*|.*validation_step.*",  # evaluation is ours
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*isinstance\(treespec, LeafSpec\).*",  # Lightning's own use of torch
    r"The `srun` command is available on your system but is not used.*",  # a run on a login node, or of a worker that srun has started
    r".*resuming from a checkpoint that ended before the epoch ended.*",  # our order of data is a function of the step
)


class _Loggers(Logger):
    """Hands what Lightning's callbacks log (LearningRateMonitor, …) to the loggers of the run."""

    def __init__(self, loggers: Sequence[MetricLogger]) -> None:
        super().__init__()
        self._loggers = loggers

    @property
    def name(self) -> str:
        return "harness"

    @property
    def version(self) -> str:
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        for logger in self._loggers:
            logger.log_metrics(metrics, step)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml has them."""


def build_trainer(
    config: Config, run: RunDirectory, plan: Plan, *, loggers: Sequence[MetricLogger], callbacks: Sequence[Callback]
) -> Trainer:
    """A Trainer that leaves logging, evaluating and saving to our callbacks."""
    for pattern in NOT_WORTH_SAYING:
        warnings.filterwarnings("ignore", pattern)
    # "GPU available: False", tips: not for every one of a hundred trials.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    return Trainer(
        accelerator=config.trainer.accelerator,
        devices=config.trainer.devices,
        num_nodes=config.trainer.nodes,
        strategy=build_strategy(config.trainer),
        precision=config.trainer.precision,
        max_epochs=-1,
        max_steps=plan.steps,
        accumulate_grad_batches=plan.accumulation,
        gradient_clip_val=config.optim.gradient_clip_norm,
        logger=_Loggers(loggers),
        callbacks=[*callbacks],
        plugins=[AtomicCheckpointIO()],
        default_root_dir=run.path,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,  # it never logs by itself; this keeps it from saying that it would not
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # ours knows its rank
    )


class RunData(LightningDataModule):
    """The rows of a run from the step it starts at."""

    def __init__(self, plan: Plan, start_step: int) -> None:
        super().__init__()
        self.plan = plan
        self.start_step = start_step

    def train_dataloader(self) -> DataLoader[Any]:
        return build_loader(
            self.plan.data,
            self.plan.batch_size,
            accumulation=self.plan.accumulation,
            start_step=self.start_step,
            stop_step=self.plan.steps,
            rank=ranks.rank(),
            world_size=self.plan.ranks,
        )
