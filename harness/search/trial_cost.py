"""What a trial costs, in tokens, before its data were looked at: what a study reserves for it."""

from __future__ import annotations

from harness.config.checks.trainer import token_bound, trains
from harness.config.errors import InputError
from harness.config.schema import Config
from harness.evaluation.kinds import most_tokens


def cost_bound(config: Config) -> int | None:
    """Upper bound of what a run of this configuration costs: the tokens that it trains (and of kto reads besides), or, where it trains
    nothing, those that its evaluation sets have. None where an evaluation set has no bound.

    Raises InputError where it is not known before the data.
    """
    if not trains(config.trainer):
        return most_tokens(config.data)
    if config.objective.name != "preference" or config.objective.kind != "kto":
        return token_bound(config)
    if config.trainer.max_tokens is None:
        raise InputError(
            "objective.kind=kto: reads each answer once more after another prompt; how many tokens that makes is not known before the "
            "data, and a study reserves the tokens of a trial before it looks at them; valid: beside it trainer.max_tokens"
        )
    return config.trainer.max_tokens
