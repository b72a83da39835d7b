"""How many steps two runs share, and why no more.

The *state key* of a run holds everything that its state depends on except what its plan says of each step. Two runs share s steps if their
state keys are equal and their plans agree on the first s steps; the state after step s is then the same to the last bit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.config.compose import defaults
from harness.config.nested import flat
from harness.config.schema import Config
from harness.config.state_key import matches_key, state_values
from harness.config.validate import to_plain

if TYPE_CHECKING:
    from harness.evaluation.evaluation_set import EvaluationSet
    from harness.training.plan import Plan

HOW_COMPUTED = ("trainer.", "model.attention", "model.liger")
"""What a run is computed with, and when it looks at itself; how long it is stands in its plan."""
SOME_STEPS = 16


@dataclass(frozen=True)
class Shared:
    """What two runs have in common."""

    steps: int
    tokens: int
    why_no_more: str | None
    """The first key, or the first step, where they part; None where one run is the beginning of the other."""


class Prefix:
    """The steps of a run, as others may share them."""

    def __init__(self, state_key: dict[str, Any], plan: Plan) -> None:
        self.state_key = state_key
        self.plan = plan

    @cached_property
    def digests(self) -> list[str]:
        """The state after s steps, by s: equal digests mean equal states. steps + 1 hex strings."""
        digest = hashlib.blake2b(json.dumps(self.state_key, sort_keys=True).encode(), digest_size=16)
        digests = [digest.hexdigest()]
        for step in range(self.plan.steps):
            digest.update(json.dumps(self.step_table(step), sort_keys=True).encode())
            digests.append(digest.hexdigest())
        return digests

    def step_table(self, step: int) -> dict[str, Any]:
        """What the plan says of a step (0-based)."""
        settings, plan = self.plan.settings(step), self.plan
        return {
            "lr": settings.lr,
            "betas": list(settings.betas),
            "weight_decay": settings.weight_decay,
            "rows": plan.batch_size.rows_of(step),
            "rows drawn from": plan.mixture_of(step),
        }

    def shared_with(self, other: Prefix) -> Shared:
        """How many steps this run has in common with another one."""
        for key in sorted({*self.state_key, *other.state_key}):
            mine, its = self.state_key.get(key), other.state_key.get(key)
            if mine != its:
                return Shared(0, 0, f"{key}: {_shown(mine)} against {_shown(its)}")
        steps = min(self.plan.steps, other.plan.steps)
        for step in range(steps):
            mine, its = self.step_table(step), other.step_table(step)
            if mine != its:
                part = next(name for name in mine if mine[name] != its[name])
                return Shared(
                    step, self.plan.tokens_after(step), f"step {step + 1}, {part}: {_shown(mine[part])} against {_shown(its[part])}"
                )
        return Shared(steps, self.plan.tokens_after(steps), None)


def state_key(
    config: Config,
    plan: Plan,
    *,
    fingerprints: Mapping[str, str],
    evaluation: Sequence[EvaluationSet],
    machine: Mapping[str, Any],
) -> dict[str, Any]:
    """What the state of a run depends on besides its plan, by configuration key where it has one.

    fingerprints: of the tokenizer and of whatever else the run starts from (those of its data stand in the plan); machine: what rounding
    depends on, see `provenance.machine`.
    """
    key = state_values(config)
    key.update({f"{name} (fingerprint)": value for name, value in fingerprints.items() if not name.startswith("data")})
    key.update({f"{part.key} (fingerprint)": part.fingerprint for part in evaluation})
    if any(part.is_sampled for part in evaluation):
        # Runs that share steps share what was logged for them.
        key.update(flat(to_plain(config.sampling), "sampling."))
    key.update({f"machine.{name}": value for name, value in machine.items()})
    key["trainer.micro_batch_size"] = f"{plan.accumulation} micro-batches a step"
    return key


def trained_digest(config: Config, plan: Plan, steps: int) -> str:
    """A digest of what the first `steps` steps were trained as, for a run that goes on from them: its configuration, where that is not at
    its defaults, and what the plan says of some of the steps. How they were computed (devices, micro-batches) may change in between."""
    usual = dict(flat(defaults(Config)))
    values = {
        key: value
        for key, value in state_values(config).items()
        if not matches_key(key, HOW_COMPUTED) and not (key in usual and usual[key] == value)
    }
    prefix = Prefix(values, plan)
    some = sorted({*range(0, steps, max(1, steps // SOME_STEPS)), max(0, steps - 1)}) if steps else []
    document = [values, *([step, prefix.step_table(step)] for step in some)]
    return hashlib.blake2b(json.dumps(document, sort_keys=True).encode(), digest_size=16).hexdigest()


def _shown(value: Any) -> str:
    match value:
        case None:
            return "absent"
        case str():
            return value
        case float():
            return f"{value:.6g}"
        case _:
            return json.dumps(value)
