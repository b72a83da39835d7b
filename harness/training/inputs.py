"""What a run trains on, found and prepared: tokenizer, data, evaluation sets, the plan over them, and their fingerprints."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from harness.config.schema import Config
from harness.data.chat.template import template_source
from harness.data.mixture import Progress, build_training_data, build_validation_data
from harness.data.multiple_choice import MultipleChoiceSet, build_multiple_choice_sets
from harness.data.validation import ValidationSet
from harness.models.language_model import model_fingerprint
from harness.models.tokenizer import load_tokenizer, tokenizer_fingerprint
from harness.schedule.replay_share import varies
from harness.training import provenance
from harness.training.plan import Plan, build_plan
from harness.training.prefix import Prefix, state_key
from harness.training.sample_teacher import teacher_fingerprint


@dataclass(frozen=True)
class Inputs:
    """The inputs of a run."""

    tokenizer: Any
    validation: dict[str, ValidationSet]
    multiple_choice: dict[str, MultipleChoiceSet]
    plan: Plan
    fingerprints: dict[str, str]
    """Of data (all that is drawn from, and each source and evaluation set by its key), tokenizer and model; of chat template and teacher,
    where there are any."""

    def prefix(self, config: Config) -> Prefix:
        """The run as others may share it: this one's, or that of a relative, whose data and model are the same by its state key."""
        # Its shares of replay are in its plan.
        plan = build_plan(config, self.plan.data)
        evaluated: dict[str, ValidationSet | MultipleChoiceSet] = {**self.validation, **self.multiple_choice}
        key = state_key(config, plan, fingerprints=self.fingerprints, evaluated=evaluated, machine=provenance.machine())
        return Prefix(key, plan)


def load_inputs(config: Config, *, progress: Progress | None = None, relatives: Iterable[Config] = ()) -> Inputs:
    """Find and prepare the inputs of a run, and what its relatives need to be planned over the same data.

    `progress` is told about tokenization. Raises InputError for what cannot be used.
    """
    tokenizer = load_tokenizer(config)
    data = build_training_data(
        config.data,
        tokenizer,
        seed=config.seed,
        progress=progress,
        objective=config.objective.name,
        replayed_later=any(varies(some) for some in (config, *relatives)),
        prompt=config.adapter.tokens,
    )
    plan = build_plan(config, data)
    validation = build_validation_data(config.data, tokenizer, progress=progress, objective=config.objective.name)
    multiple_choice = build_multiple_choice_sets(config.data, tokenizer)
    fingerprints = {
        **_fingerprints(config, tokenizer, plan),
        **{f"data.sources.{source.name}": source.documents.fingerprint for source in data.sources},
        **{f"data.validation.{domain}": part.fingerprint for domain, part in validation.items()},
        **{f"data.multiple_choice.{name}": part.fingerprint for name, part in multiple_choice.items()},
    }
    return Inputs(tokenizer, validation, multiple_choice, plan, fingerprints)


def _fingerprints(config: Config, tokenizer: Any, plan: Plan) -> dict[str, str]:
    fingerprints = {"data": plan.data.fingerprint, "tokenizer": tokenizer_fingerprint(tokenizer), "model": model_fingerprint(config.model)}
    if any(source.documents.trained is not None for source in plan.data.sources):
        template, _ = template_source(config.data.chat_template, tokenizer.chat_template)
        fingerprints["chat_template"] = hashlib.sha256(template.encode()).hexdigest()
    if config.objective.name == "distill":
        fingerprints["teacher"] = teacher_fingerprint(config)
    return fingerprints
