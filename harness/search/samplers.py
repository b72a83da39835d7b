"""Which Optuna sampler proposes the next point.

It is made anew for every trial, by whichever worker asks. Proposal n is a function of (seed, n, results so far): it does not depend on how
trials are spread over workers, no two workers draw the same numbers, and a proposal that was half made when its worker died is completed
with the values that it would have had.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, assert_never

from harness.config.errors import InputError, unknown, wrong_value
from harness.config.sweep_schema import SearchConfig
from harness.search.space import Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler


GP_TRIALS = 500
"""From the trial of this number on, tpe proposes where a Gaussian process did: its proposals take time by the third power of their number
(12 s with 1,000 trials), under the lock that all workers wait for."""


def build_sampler(
    config: SearchConfig,
    space: Space,
    number: int,
    pinned: dict[str, Any],
    learned_from: set[int] | None = None,
    given: dict[str, Any] | None = None,
) -> BaseSampler:
    """The sampler for trial `number`.

    pinned: values that are given (a point of a warm start or of a grid, a draw from a prior), as Optuna's record has them; all
    others are then drawn independently, whatever the sampler. learned_from: the numbers of the trials that it may look at; None: all.
    given: values beside which the sampler proposes the others as ever.
    """
    arms = arms_of(config, space)
    if not arms:
        sampler = _sampler(config, space, number, number, pinned, learned_from)
        return _with_given(given, sampler) if given else sampler
    assert config.arms is not None, "it has arms"
    own = {config.arms: arms[number % len(arms)]}
    if pinned:
        return _sampler(config, space, number, number, {**pinned, **own}, learned_from)
    alike = set(range(number % len(arms), number, len(arms)))
    return _with_given(own, _sampler(config, space, number, number // len(arms), {}, alike))


def arms_of(config: SearchConfig, space: Space) -> list[Any]:
    """The values that get equal numbers of trials, as Optuna's record has them: trial n has the value n modulo their number."""
    return [] if config.arms is None else [space[config.arms].in_optuna(choice) for choice in space[config.arms].choices]


def _sampler(
    config: SearchConfig, space: Space, number: int, place: int, pinned: dict[str, Any], learned_from: set[int] | None
) -> BaseSampler:
    """place: the trial's place among those that are proposed alike, for sequences of points."""
    from optuna.samplers import CmaEsSampler, GPSampler, RandomSampler, TPESampler

    if pinned:
        return _parameters_apart(lambda name, domain: pinned[name] if name in pinned else _uniform(config.seed, number, name, domain))
    name = config.sampler if config.name == "trunk" else config.name
    match "tpe" if name == "gp" and place >= GP_TRIALS else name:
        case "random" | "grid" | "joint":  # joint: of the first trials only, the others are given
            return _parameters_apart(lambda name, domain: _uniform(config.seed, number, name, domain))
        case "qmc":
            shares = _sobol_point(config.seed, place, space)
            return _parameters_apart(lambda name, domain: _at_share(domain, shares[name]))
        case "tpe":
            return _repeatable(
                lambda seed: TPESampler(
                    seed=seed,
                    n_startup_trials=config.startup_trials,
                    multivariate=True,
                    group=True,  # which conditional parameters need
                    constant_liar=True,
                    warn_independent_sampling=False,
                ),
                config.seed,
                number,
                learned_from,
            )
        case "gp" | "cmaes":
            built: Any = GPSampler if name == "gp" else CmaEsSampler
            return _repeatable(
                lambda seed: built(
                    seed=seed,
                    n_startup_trials=config.startup_trials,
                    independent_sampler=RandomSampler(seed),
                    warn_independent_sampling=False,
                ),
                config.seed,
                number,
                learned_from,
            )
        case _:
            assert_never(config.name)


def check_sampler(config: SearchConfig, space: Space, *, objectives: int, trials: int | None) -> None:
    """Raise InputError for a sampler that cannot search this space, or whose package is absent; nothing is imported.

    trials: what the budget holds.
    """
    _check_arms(config, space, trials)
    if config.name != "cmaes":
        return
    if find_spec("cmaes") is None:
        raise InputError("search.name=cmaes: needs cmaes; pip install 'harness[samplers]'")
    if objectives > 1:
        raise InputError(f"search.name=cmaes: takes one objective, there are {objectives}; valid for several: tpe, gp, random, qmc, grid")
    modelled = [parameter.key for parameter in space.parameters if (parameter.ordered or not parameter.choices) and not parameter.when]
    if len(modelled) < 2:
        raise InputError(
            "search.name=cmaes: needs at least two unconditional ranges (or ordered choices) to adapt a covariance of, "
            f"this space has {', '.join(modelled) or 'none'}; choices and conditional parameters would be drawn at random. Valid: tpe, gp"
        )


def _check_arms(config: SearchConfig, space: Space, trials: int | None) -> None:
    if config.arms is None:
        return
    possible = [parameter.key for parameter in space.parameters if parameter.choices and not parameter.when]
    if config.arms not in possible:
        raise unknown("unconditional parameter of choices", config.arms, possible, where="search.arms")
    if config.name in ("grid", "trunk"):
        raise wrong_value("search.arms", config.arms, f"not with search.name={config.name}; valid: tpe, random, qmc, gp, cmaes")
    if config.warm_start:
        raise wrong_value("search.arms", config.arms, "not with search.warm_start, whose points belong to some of the arms")
    count = len(space[config.arms].choices)
    if trials is None or trials % count:
        below, above = max(1, (trials or 0) // count) * count, (-(-(trials or count) // count)) * count
        near = f"{below}" if below == above else f"{below} or {above}"
        problem = f"search.arms={config.arms} has {count} arms with equal numbers of trials; valid: {near}"
        raise wrong_value("budget.trials", trials, problem)


def derived_seed(*parts: Any) -> int:
    """A seed of 32 bits from a study's seed, a trial's number, a parameter's name, …"""
    return int.from_bytes(hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=4).digest(), "big")


def _uniform(seed: int, number: int, name: str, domain: BaseDistribution) -> Any:
    from optuna.samplers import RandomSampler

    sampler = RandomSampler(seed=derived_seed(seed, number, name))
    return sampler.sample_independent(None, None, name, domain)  # type: ignore[arg-type]  # it looks at neither study nor trial


def _parameters_apart(draw: Callable[[str, BaseDistribution], Any]) -> BaseSampler:
    """A sampler that draws each parameter independently, from its name and domain."""
    from optuna.samplers import BaseSampler

    class ParametersApart(BaseSampler):
        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return {}

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            return {}

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            return draw(param_name, param_distribution)

    return ParametersApart()


def _with_given(given: dict[str, Any], others: BaseSampler) -> BaseSampler:
    """A sampler that gives these values, and has the others proposed."""
    from optuna.samplers import BaseSampler

    class WithGiven(BaseSampler):
        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return {name: domain for name, domain in others.infer_relative_search_space(study, trial).items() if name not in given}

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            # TPE proposes by groups of parameters, whatever it is asked for.
            proposed = others.sample_relative(study, trial, search_space)
            return {name: value for name, value in proposed.items() if name not in given}

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            return given[param_name] if param_name in given else others.sample_independent(study, trial, param_name, param_distribution)

    return WithGiven()


def _repeatable(build: Callable[[int], BaseSampler], seed: int, number: int, learned_from: set[int] | None) -> BaseSampler:
    """A sampler that models parameters jointly, but draws each of those it does not from a seed of its own.

    With one stream of random numbers, a parameter's value would depend on which others were drawn before a worker died.
    """
    from optuna.samplers import BaseSampler

    def built(*parts: Any) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some arguments are called experimental
            return build(derived_seed(*parts))

    joint = built(seed, number)

    class Repeatable(BaseSampler):
        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return joint.infer_relative_search_space(_Others(study, number, learned_from), trial)  # type: ignore[arg-type]

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            return joint.sample_relative(_Others(study, number, learned_from), trial, search_space)  # type: ignore[arg-type]

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            return built(seed, number, param_name).sample_independent(study, trial, param_name, param_distribution)

    return Repeatable()


class _Others:
    """A study without the trial that is being proposed (what of it was made already must not sway the rest), and without those that do not
    compare with it."""

    def __init__(self, study: Any, number: int, learned_from: set[int] | None) -> None:
        self._study = study
        self._number = number
        self._learned_from = learned_from

    def _counts(self, number: int) -> bool:
        return number != self._number and (self._learned_from is None or number in self._learned_from)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def get_trials(self, *arguments: Any, **keywords: Any) -> list[Any]:
        return [trial for trial in self._study.get_trials(*arguments, **keywords) if self._counts(trial.number)]

    def _get_trials(self, *arguments: Any, **keywords: Any) -> list[Any]:
        return [trial for trial in self._study._get_trials(*arguments, **keywords) if self._counts(trial.number)]


def _sobol_point(seed: int, number: int, space: Space) -> dict[str, float]:
    """Point `number` of a scrambled Sobol' sequence, by parameter, in [0, 1).

    Every parameter has a dimension, whether it is active or not, so that conditional ones are spread as evenly as the others.
    """
    from scipy.stats import qmc

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions call the seed rng
        sequence = qmc.Sobol(len(space.parameters), scramble=True, seed=derived_seed(seed, "sobol"))
    if number:  # scipy cannot go on by 0
        sequence.fast_forward(number)
    (point,) = sequence.random(1)
    return {parameter.key: float(share) for parameter, share in zip(space.parameters, point, strict=True)}


def _at_share(domain: BaseDistribution, share: float) -> Any:
    """The value below which this share of the domain lies, as a uniform sampler weighs it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    match domain:
        case CategoricalDistribution(choices=choices):
            return choices[min(int(share * len(choices)), len(choices) - 1)]
        case FloatDistribution(low=low, high=high, log=True):
            return min(max(math.exp(math.log(low) + share * (math.log(high) - math.log(low))), low), high)
        case IntDistribution(low=low, high=high, log=True):
            bottom, top = math.log(low - 0.5), math.log(high + 0.5)
            return min(max(round(math.exp(bottom + share * (top - bottom))), low), high)
        case FloatDistribution(low=low, high=high, step=None):
            return low + share * (high - low)
        case FloatDistribution(low=low, high=high, step=step) | IntDistribution(low=low, high=high, step=step):
            assert step is not None
            last = round((high - low) / step)
            return low + min(int(share * (last + 1)), last) * step
    raise AssertionError(domain)
