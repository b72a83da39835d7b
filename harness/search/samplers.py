"""Which Optuna sampler proposes the next point."""

from __future__ import annotations

import hashlib
import warnings
from typing import TYPE_CHECKING, assert_never

from harness.config.sweep_schema import SearchConfig

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


def build_sampler(config: SearchConfig, number: int) -> BaseSampler:
    """The sampler for trial `number`.

    It is made anew for every trial, by whichever worker asks, with a seed of its own: proposals do not depend on how trials are spread
    over workers, and no two workers draw the same numbers.
    """
    from optuna.samplers import RandomSampler, TPESampler

    seed = int.from_bytes(hashlib.blake2b(f"{config.seed}/{number}".encode(), digest_size=4).digest(), "big")
    match config.name:
        case "random":
            return RandomSampler(seed=seed)
        case "tpe":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # group=True, which conditional parameters need, is called experimental
                return TPESampler(
                    seed=seed,
                    n_startup_trials=config.startup_trials,
                    multivariate=True,
                    group=True,
                    constant_liar=True,
                    warn_independent_sampling=False,
                )
        case _:
            assert_never(config.name)
