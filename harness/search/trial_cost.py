"""What a trial costs, in tokens, before its data were looked at: what a study reserves for it."""

from __future__ import annotations

from harness.config.checks.trainer import token_bound, trains
from harness.config.schema import Config
from harness.evaluation.kinds import most_tokens


def cost_bound(config: Config) -> int | None:
    """Upper bound of what a run of this configuration costs: the tokens that it trains, or, where it trains nothing, those that its
    evaluation sets have. None where an evaluation set has no bound."""
    return token_bound(config) if trains(config.trainer) else most_tokens(config.data)
