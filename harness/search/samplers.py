"""Which Optuna sampler proposes the next point."""

from __future__ import annotations

import hashlib
import warnings
from typing import TYPE_CHECKING, Any, assert_never

from harness.config.sweep_schema import SearchConfig

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


def build_sampler(config: SearchConfig, number: int) -> BaseSampler:
    """The sampler for trial `number`.

    It is made anew for every trial, by whichever worker asks, with a seed of its own: proposals do not depend on how trials are spread
    over workers, and no two workers draw the same numbers.
    """
    from optuna.samplers import TPESampler

    match config.name:
        case "random":
            return _random_sampler(config.seed, number)
        case "tpe":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # group=True, which conditional parameters need, is called experimental
                return TPESampler(
                    seed=_seed(config.seed, number),
                    n_startup_trials=config.startup_trials,
                    multivariate=True,
                    group=True,
                    constant_liar=True,
                    warn_independent_sampling=False,
                )
        case _:
            assert_never(config.name)


def _seed(*parts: Any) -> int:
    return int.from_bytes(hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=4).digest(), "big")


def _random_sampler(seed: int, number: int) -> BaseSampler:
    """Each value from a seed of its own: a proposal that was half made when its worker died is completed with the same values."""
    from optuna.samplers import BaseSampler, RandomSampler

    class EveryParameterApart(BaseSampler):
        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return {}

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            return {}

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            sampler = RandomSampler(seed=_seed(seed, number, param_name))
            return sampler.sample_independent(study, trial, param_name, param_distribution)

    return EveryParameterApart()
