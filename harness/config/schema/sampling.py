"""How a model that writes chooses its next token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from harness.config.schema.base import Count, Name, NonNegative, Positive, Section, Share

SamplingName = Literal[
    "greedy",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "penalties",
    "dry",
    "xtc",
    "top_n_sigma",
    "typical",
    "dynatemp",
    "mirostat",
    "adaptive_p",
    "quadratic",
    "epsilon",
    "eta",
    "top_h",
    "p_less",
    "p_less_norm",
]
SamplerName = Literal[
    "penalties",
    "dry",
    "top_n_sigma",
    "temperature",
    "quadratic",
    "top_h",
    "top_k",
    "top_p",
    "min_p",
    "typical",
    "epsilon",
    "eta",
    "p_less",
    "xtc",
    "mirostat",
    "adaptive_p",
]
"""A step of the chain. Their order here is the one of transformers' `generate`, for those that it has."""
Penalty = Annotated[float, Ge(-2), Le(2)]


def transformers_order() -> list[SamplerName]:
    """The default of sampling.order."""
    return list(SamplerName.__args__)  # type: ignore[attr-defined]  # mypy knows no arguments of a Literal


@dataclass(kw_only=True)
class SamplingConfig(Section):
    """How the next token is chosen. Every parameter is said here; nothing is taken from a checkpoint's generation_config.json.

    A parameter that is not given leaves its sampler off. Those that are on are applied one after the other, each to what the one before
    it left, in the order of `order`. Where two tokens are equally likely, a sampler keeps both or neither.
    """

    name: SamplingName = "temperature"
    """What an arm of a study of samplers is called. The parameters below say what is done."""
    seed: Annotated[int, Ge(0), Lt(2**32)] = 0
    """Seed of the noise. A row's text depends on it, on the row's id and draw, and on the model: not on batch, order or worker."""
    order: list[SamplerName] = field(default_factory=transformers_order)
    """The order in which samplers are applied; one that is off may be left out. The default is that of transformers, so that
    generation_config.json means the same; engines differ (llama.cpp has temperature last, vLLM min_p before top_k). temperature includes
    dynatemp; mirostat and adaptive_p come last, since they choose."""
    temperature: NonNegative = 1.0
    """Logits are divided by it; 0: the most likely token, always."""
    dynatemp_range: NonNegative = 0.0
    """The temperature lies between temperature - range (where the model is sure; not below 0) and temperature + range; 0: it is the same
    everywhere."""
    dynatemp_exponent: Positive = 1.0
    """How it rises with the entropy, as a share of the highest: T = low + (high - low) share^exponent."""
    smoothing_factor: NonNegative = 0.0
    """Quadratic sampling: a logit that lies d below the highest becomes -factor d^2; 0: off."""
    smoothing_curve: Annotated[float, Ge(1), Le(3)] = 1.0
    """Above 1 a cubic term joins: -factor ((3 - curve)/2 d^2 + (curve - 1)/2 d^3)."""
    top_k: Annotated[int, Ge(0)] = 0
    """Keep the k most likely tokens, and those as likely as the last of them; 0: off."""
    top_p: Annotated[float, Gt(0), Le(1)] = 1.0
    """Keep the fewest most likely tokens that have this probability together (arXiv 1904.09751); 1: off."""
    min_p: Share = 0.0
    """Keep tokens that are at least this times as likely as the most likely one (arXiv 2407.01082); 0: off."""
    typical_p: Annotated[float, Gt(0), Le(1)] = 1.0
    """Keep the fewest tokens, those first whose surprise is nearest to the entropy, that have this probability together
    (arXiv 2202.00666); 1: off."""
    top_n_sigma: NonNegative = 0.0
    """Keep logits at most n standard deviations below the highest (arXiv 2411.07641); 0: off."""
    epsilon_cutoff: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Keep tokens of at least this probability (arXiv 2210.15191); 0: off."""
    eta_cutoff: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Keep tokens of at least min(eta, sqrt(eta) exp(-entropy)) (arXiv 2210.15191); 0: off."""
    top_h: Annotated[float, Gt(0), Le(1)] = 1.0
    """Keep the most likely tokens as long as the entropy among them is at most this share of the whole (arXiv 2509.02510); 1: off."""
    p_less: Literal["plain", "norm"] | None = None
    """Keep tokens at least as likely as two draws are to be equal (plain), or as the norm of that for uniform rest (norm), see
    arXiv 2509.23234; it has no parameter. null: off."""
    repetition_penalty: Positive = 1.0
    """Logits of tokens that prompt or text hold are divided by it if positive, else multiplied (arXiv 1909.05858); 1: off."""
    presence_penalty: Penalty = 0.0
    """Is taken from the logit of each token that prompt or text hold; 0: off."""
    frequency_penalty: Penalty = 0.0
    """Is taken from a token's logit as often as prompt and text hold it; 0: off."""
    penalty_last_n: Count | None = None
    """These three penalties look at so many last tokens of prompt and text; null: at all."""
    dry_multiplier: NonNegative = 0.0
    """DRY ("don't repeat yourself"): a token that would prolong a repetition of n >= dry_allowed_length tokens loses
    multiplier * base^(n - dry_allowed_length); 0: off."""
    dry_base: Annotated[float, Ge(1)] = 1.75
    """How fast that grows."""
    dry_allowed_length: Count = 2
    """Tokens that may be repeated freely."""
    dry_penalty_last_n: Count | None = None
    """DRY looks at so many last tokens of prompt and text; null: at all."""
    dry_sequence_breakers: list[Name] = field(default_factory=lambda: ["\n", ":", '"', "*"])
    """Strings that no repetition goes across."""
    xtc_probability: Share = 0.0
    """XTC ("exclude top choices"): how likely it is, at each token, that it acts; 0: off."""
    xtc_threshold: Annotated[float, Gt(0), Le(0.5)] = 0.1
    """Where it acts, of the tokens that have at least this probability only the least likely stays."""
    mirostat_tau: Positive | None = None
    """Mirostat 2 keeps the surprise of what is written near this, in bits (arXiv 2007.14966); null: off."""
    mirostat_eta: Annotated[float, Gt(0), Le(1)] = 0.1
    """How fast it learns."""
    adaptive_target: Share | None = None
    """Adaptive-p prefers tokens near a probability, so that those chosen have this one on average; null: off."""
    adaptive_decay: Annotated[float, Ge(0), Le(0.99)] = 0.9
    """How slowly that average forgets."""
