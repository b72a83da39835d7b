"""The part of the state key that stands in the configuration: what the state of a run depends on, besides the plan of its steps.

Any key that is not known to have no influence is taken to have one: a new key keeps runs apart until somebody has looked at it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from harness.config.nested import flat
from harness.config.schema import Config, evaluation_sections
from harness.config.validate import to_plain

IN_THE_PLAN = (
    "optim.lr",
    "optim.betas",
    "optim.weight_decay",
    "schedule.",
    "data.replay_share",
    "data.replay_share_end",
    "trainer.max_tokens",
    "trainer.max_steps",
    "trainer.max_epochs",
    "trainer.batch_tokens",
    "trainer.batch_pairs",
    "trainer.initial_batch_tokens",
    "trainer.batch_warmup",
)
"""What matters by what it makes of each step. (How many micro-batches it has stays in the state key: `harness.training.shared_steps`.)"""
BY_FINGERPRINT = (
    "data.sources.",
    *(f"data.{section}." for section in evaluation_sections()),
    "data.max_evaluation_tokens",
    "model.path",
    "model.checkpoint",
    "model.merge.",
    "objective.teacher",
    "objective.reference",
    "adapter.pairs",
    "adapter.vector",
    "tokenizer.path",
)
"""What matters by its content, wherever it lies."""
WHEN_MEASURED = ".every_evaluations"
"""How keys end that say which rows hold what is measured by fingerprint: runs of one state share their rows."""
OF_EVALUATIONS = ("sampling.", "trainer.evaluation_batch_tokens")
"""What changes no state, but may change what is measured of it."""
NO_INFLUENCE = (
    "data.cache_dir",
    "data.max_epochs",
    "tracking.",
    "trainer.warn_evaluation_share",
    "trainer.checkpoint_every_steps",
    "trainer.final_checkpoint",
    "trainer.keep_checkpoints",
)
"""What changes neither."""


def state_values(config: Config) -> dict[str, Any]:
    """The values that the state of a run depends on, by dotted key."""
    return _values(config, but=(*IN_THE_PLAN, *BY_FINGERPRINT, *OF_EVALUATIONS, *NO_INFLUENCE))


def logged_values(config: Config) -> dict[str, Any]:
    """The values, by dotted key, that what a run logs depends on and that no fingerprint tells."""
    return _values(config, but=(*BY_FINGERPRINT, *NO_INFLUENCE))


def _values(config: Config, *, but: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in flat(to_plain(config)) if key.endswith(WHEN_MEASURED) or not matches_key(key, but)}


def matches_key(name: str, keys: tuple[str, ...]) -> bool:
    """Whether a dotted key is one of these, or below one that ends with a dot."""
    return name in keys or name.startswith(_sections(keys))


@cache
def _sections(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(key for key in keys if key.endswith("."))
