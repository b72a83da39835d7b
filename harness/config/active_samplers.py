"""Which samplers a configuration turns on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from harness.config.schema import SamplerName, SamplingConfig

OFF: Mapping[SamplerName, Mapping[str, Any]] = MappingProxyType(
    {
        "penalties": {"repetition_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0},
        "dry": {"dry_multiplier": 0},
        "top_n_sigma": {"top_n_sigma": 0},
        "temperature": {"temperature": 1, "dynatemp_range": 0},
        "quadratic": {"smoothing_factor": 0},
        "top_h": {"top_h": 1},
        "top_k": {"top_k": 0},
        "top_p": {"top_p": 1},
        "min_p": {"min_p": 0},
        "typical": {"typical_p": 1},
        "epsilon": {"epsilon_cutoff": 0},
        "eta": {"eta_cutoff": 0},
        "p_less": {"p_less": None},
        "xtc": {"xtc_probability": 0},
        "mirostat": {"mirostat_tau": None},
        "adaptive_p": {"adaptive_target": None},
    }
)
"""The values of a sampler's keys that leave all logits as they are: all of them must be off for it to be."""


def switches(sampling: SamplingConfig, name: SamplerName) -> dict[str, Any]:
    """The keys that turn this sampler on, with their values; {} if it is off."""
    return {key: value for key, off in OFF[name].items() if (value := getattr(sampling, key)) != off}


def active_samplers(sampling: SamplingConfig) -> tuple[SamplerName, ...]:
    """The samplers that are on, in the order in which they are applied."""
    return tuple(name for name in sampling.order if switches(sampling, name))
