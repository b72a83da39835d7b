"""The epochs of a run over its sources, known before it starts and limited by max_epochs."""

from __future__ import annotations

import logging

import numpy as np

from harness.config.errors import InputError
from harness.config.schema import DataConfig
from harness.data.training_data import TrainingData
from harness.schedule.batch_size import BatchSize

log = logging.getLogger("harness")

MANY = 4
"""Up to about four repetitions are worth almost as much as new text; beyond, soon nothing (Muennighoff 2023, arXiv 2305.16264)."""


def check_epochs(config: DataConfig, data: TrainingData, batch_size: BatchSize, steps: int) -> None:
    """Raise InputError, one line a source, if a run of this length goes through a source more often than its max_epochs allows.

    Warns of sources without such a limit that are gone through many times.
    """
    problems = []
    rows_before = batch_size.rows_before(steps)
    rows = int(rows_before[-1])
    epochs = data.order.epochs(rows)
    for index, name in enumerate(data.order.names):
        key, cap = f"data.sources.{name}.max_epochs", config.sources[name].max_epochs
        if cap is None:
            key, cap = "data.max_epochs", config.max_epochs
        if cap is None:
            if epochs[name] > MANY:
                log.warning(
                    "this run goes through data.sources.%s %.1f times; repetitions beyond about %d add little "
                    "(trainer.max_epochs=%d ends it before, %s=N says how often is meant)",
                    *(name, epochs[name], MANY, MANY, key),
                )
            continue
        if epochs[name] <= cap:
            continue
        mine = data.order.rows(0, rows)[0] == index
        allowed = int(cap * data.order.source_rows[index])
        whole_steps = int(np.searchsorted(rows_before, np.flatnonzero(mine)[allowed], side="right")) - 1
        tokens = data.row_tokens(0, rows)
        share = float(tokens[mine].sum() / tokens.sum())
        length = "no length"
        if whole_steps:
            longest = int(tokens[: rows_before[whole_steps]].sum())
            length = f"at most trainer.max_tokens={longest} ({whole_steps} steps)"
        problems.append(
            f"{key}={cap:g}: this run would go through data.sources.{name} {epochs[name]:.2f} times (in {steps} steps, with {share:.1%} of "
            f"its tokens); valid: {length}, or at this length a share of at most about {share * cap / epochs[name]:.1%} "
            f"({_share_key(config, name)})"
        )
    if problems:
        raise InputError("\n".join(problems))


def _share_key(config: DataConfig, name: str) -> str:
    """The key that sets the share of a source."""
    if config.sources[name].replay:
        return "data.replay_share"
    return f"data.sources.{name}.weight beside other sources"
