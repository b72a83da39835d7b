"""The samplers of a configuration, in its order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, assert_never

import torch
from torch import Tensor

from harness.config.active_samplers import active_samplers
from harness.config.schema import SamplerName, SamplingConfig
from harness.generation.noise import as_int64, uniform
from harness.generation.row_state import RowState
from harness.generation.samplers.adaptive_p import AdaptiveP
from harness.generation.samplers.dry import Breakers, dry, sequence_breakers
from harness.generation.samplers.mirostat import Mirostat
from harness.generation.samplers.penalties import penalties
from harness.generation.samplers.prefix import top_h, top_k, top_p, typical
from harness.generation.samplers.rounding import Rounding
from harness.generation.samplers.temperature import dynamic_temperature, quadratic, temperature
from harness.generation.samplers.threshold import epsilon, eta, min_p, p_less, p_less_norm, top_n_sigma
from harness.generation.samplers.xtc import xtc

Step = Callable[[Tensor, Sequence[RowState], Rounding | None], Tensor]
"""From logits [B, V], the rows that they are of, and how far rounding reaches, if that matters, to logits [B, V]."""
XTC_STREAM = 1


class SamplerChain:
    """What is done to logits before a token is chosen. Samplers that are off are not there: without any, logits stay the same tensor."""

    def __init__(self, config: SamplingConfig, tokenizer: Any = None) -> None:
        """config: checked, see `harness.config.checks.sampling`; tokenizer: whose tokens are sampled, for DRY's sequence breakers."""
        self.greedy = config.temperature == 0
        """Whether the most likely of the remaining tokens is taken, rather than one drawn."""
        names = (name for name in active_samplers(config) if not (self.greedy and name == "temperature"))
        self._steps = [build_step(name, config, tokenizer) for name in names]

    def filter(self, logits_BV: Tensor, rows: Sequence[RowState], rounding: Rounding | None = None) -> Tensor:
        """Logits of the next token for each row, float32 [B, V], with -inf for tokens that are removed. The argument is not changed.

        rounding: gets to know how far rounding reaches, and what it might keep, which then is not removed; None: bars are exact.
        """
        return self._filtered(logits_BV, rows, rounding)[0]

    def _filtered(self, logits_BV: Tensor, rows: Sequence[RowState], rounding: Rounding | None) -> tuple[Tensor, list[Tensor]]:
        """The logits that are left, and what each sampler was given."""
        given = []
        for step in self._steps:
            given.append(logits_BV)
            logits_BV = step(logits_BV, rows, rounding)
        return logits_BV, given

    @cached_property
    def learns(self) -> bool:
        """Whether what was chosen matters for what comes next, see `learn`."""
        return any(isinstance(step, Mirostat | AdaptiveP) for step in self._steps)

    def chosen(self, ids_B: Tensor, logits_BV: Tensor, rows: Sequence[RowState]) -> None:
        """What was chosen, int64 [B], where `filter` was given these logits: changes the memory of samplers that learn."""
        if not self.learns:
            return
        left, given = self._filtered(logits_BV, rows, None)
        for step, seen in zip(self._steps, given, strict=True):
            if isinstance(step, Mirostat):
                step.learn(ids_B, left, rows)
            elif isinstance(step, AdaptiveP):
                step.learn(ids_B, seen, rows)


def build_step(name: SamplerName, config: SamplingConfig, tokenizer: Any) -> Step:
    """A sampler that is on."""
    match name:
        case "penalties":
            return partial(_penalties, config)
        case "dry":
            return partial(_dry, config, _breakers(config, tokenizer))
        case "top_n_sigma":
            return _stateless(top_n_sigma, config.top_n_sigma)
        case "temperature" if config.dynatemp_range:
            return _stateless(dynamic_temperature, config.temperature, config.dynatemp_range, config.dynatemp_exponent)
        case "temperature":
            return _stateless(temperature, config.temperature)
        case "quadratic":
            return _stateless(quadratic, config.smoothing_factor, config.smoothing_curve)
        case "top_h":
            return _stateless(top_h, config.top_h)
        case "top_k":
            return _stateless(top_k, config.top_k)
        case "top_p":
            return _stateless(top_p, config.top_p)
        case "min_p":
            return _stateless(min_p, config.min_p)
        case "typical":
            return _stateless(typical, config.typical_p)
        case "epsilon":
            return _stateless(epsilon, config.epsilon_cutoff)
        case "eta":
            return _stateless(eta, config.eta_cutoff)
        case "p_less":
            return _stateless(p_less_norm if config.p_less == "norm" else p_less)
        case "xtc":
            return partial(_xtc, config)
        case "mirostat":
            assert config.mirostat_tau is not None, "on"
            return Mirostat(config.mirostat_tau, config.mirostat_eta)
        case "adaptive_p":
            assert config.adaptive_target is not None, "on"
            return AdaptiveP(config.adaptive_target, config.adaptive_decay)
        case _:
            assert_never(name)


def _stateless(sampler: Callable[..., Tensor], *parameters: float) -> Step:
    return lambda logits_BV, rows, rounding: sampler(logits_BV, *parameters, rounding)


def _penalties(config: SamplingConfig, logits_BV: Tensor, rows: Sequence[RowState], rounding: Rounding | None) -> Tensor:
    if rounding is not None:
        rounding.scale(max(config.repetition_penalty, 1 / config.repetition_penalty))
    return penalties(
        logits_BV,
        _last(rows, config.penalty_last_n),
        repetition=config.repetition_penalty,
        presence=config.presence_penalty,
        frequency=config.frequency_penalty,
    )


def _dry(config: SamplingConfig, breakers: Breakers, logits_BV: Tensor, rows: Sequence[RowState], _: Rounding | None) -> Tensor:
    return dry(
        logits_BV,
        _last(rows, config.dry_penalty_last_n),
        multiplier=config.dry_multiplier,
        base=config.dry_base,
        allowed_length=config.dry_allowed_length,
        breakers=breakers,
    )


def _last(rows: Sequence[RowState], tokens: int | None) -> list[Sequence[int]]:
    return [row.history if tokens is None else row.history[-tokens:] for row in rows]


def _breakers(config: SamplingConfig, tokenizer: Any) -> Breakers:
    if not config.dry_sequence_breakers:
        return {}
    assert tokenizer is not None, "DRY asks which tokens hold its sequence breakers"
    return sequence_breakers(tokenizer, config.dry_sequence_breakers)


def _xtc(config: SamplingConfig, logits_BV: Tensor, rows: Sequence[RowState], rounding: Rounding | None) -> Tensor:
    device = logits_BV.device
    keys, positions = as_int64([row.key for row in rows], device), torch.tensor([row.position for row in rows], device=device)
    return xtc(logits_BV, config.xtc_threshold, uniform(keys, positions, XTC_STREAM) < config.xtc_probability, rounding)
