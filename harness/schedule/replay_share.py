"""The share of replayed tokens as a pure function of the step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.config.schema import Config
from harness.schedule.learning_rate import Schedule


def replay_shares(config: Config, schedule: Schedule) -> NDArray[np.float64]:
    """Share of the tokens of each step that is drawn from replay sources: float64[steps]."""
    steps, data = schedule.total_steps, config.data
    if data.replay_share_end is None:
        shares = np.full(steps, data.replay_share)
    else:
        shares = np.linspace(data.replay_share, data.replay_share_end, steps)
    if config.schedule.decay_replay_share is not None:
        shares[schedule.decay_start :] = config.schedule.decay_replay_share
    return shares


def varies(config: Config) -> bool:
    """Whether the share changes within the run."""
    return config.data.replay_share_end is not None or config.schedule.decay_replay_share is not None
