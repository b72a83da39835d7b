"""What a run trains and is evaluated on, found and prepared: tokenizer, data, evaluation sets, the plan, and their fingerprints."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from harness.config.checks.trainer import trains
from harness.config.schema import Config
from harness.config.steering_controls import asked_data
from harness.data.chat.template import template_fingerprint
from harness.data.mixture import build_training_data
from harness.data.tokenization import Progress, Tokenization
from harness.data.training_data import TrainingData
from harness.evaluation.build import build_evaluation_sets
from harness.evaluation.evaluation_set import EvaluationSet
from harness.evaluation.preference_set import PreferenceSet
from harness.models.checkpoint_files import checkpoint_fingerprint
from harness.models.language_model import model_fingerprint, part_fingerprints
from harness.models.tokenizer import load_tokenizer, tokenizer_fingerprint
from harness.schedule.replay_share import varies
from harness.training import provenance
from harness.training.objectives.build import build_objective
from harness.training.plan import Plan, build_plan
from harness.training.reference_logprobs import with_set_reference
from harness.training.shared_steps import Prefix, state_key
from harness.training.steering import steering_fingerprints
from harness.training.unseen_completions import refuse_extracted_completions, refuse_trained_completions


@dataclass(frozen=True)
class Data:
    """The data of a configuration."""

    evaluation: list[EvaluationSet]
    training: TrainingData | None
    """None of a run that trains nothing."""
    fingerprints: dict[str, str]
    """Of each source and evaluation set, by its key; of the chat template, where conversations were read."""


@dataclass(frozen=True)
class Inputs:
    """The inputs of a run."""

    tokenizer: Any
    evaluation: list[EvaluationSet]
    plan: Plan | None
    """None of a run that trains nothing."""
    fingerprints: dict[str, str]
    """Of data (all that is drawn from, and each source and evaluation set by its key), tokenizer and model, and of all that a merge is made
    of; of chat template, what else the objective needs (a teacher), and what is steered by, where there are any."""

    @property
    def tokens_read(self) -> int:
        """Tokens that one evaluation reads."""
        return sum(part.tokens_read for part in self.evaluation)

    @property
    def largest_id(self) -> int:
        """The largest token id that is trained or evaluated on."""
        trained = [self.plan.data.largest_id] if self.plan else []
        return max([*trained, *(part.largest_id for part in self.evaluation)], default=0)

    def prefix(self, config: Config) -> Prefix:
        """The prefix of this run, or of a related one, whose state key says that data and model are the same."""
        assert self.plan is not None, "a run that trains"
        # Its shares of replay are in its plan.
        plan = build_plan(config, self.plan.data)
        key = state_key(config, plan, fingerprints=self.fingerprints, evaluation=self.evaluation, machine=provenance.machine())
        return Prefix(key, plan)


def load_inputs(config: Config, *, progress: Progress | None = None, related: Iterable[Config] = (), verify: bool = False) -> Inputs:
    """Find and prepare the inputs of a run, and what related configurations need to be planned over the same data.

    `progress` is told about tokenization; `verify` looks for damage in the cache, for which it reads all of it. Raises InputError for what
    cannot be used.
    """
    tokenizer = load_tokenizer(config)
    data = load_data(config, tokenizer, progress=progress, related=related, verify=verify)
    plan = None if data.training is None else build_plan(config, data.training)
    fingerprints = {
        **({} if plan is None else {"data": plan.data.fingerprint}),
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "model": model_fingerprint(config.model),
        **part_fingerprints(config.model),
        **({} if config.model.checkpoint is None else {"checkpoint": checkpoint_fingerprint(config.model.checkpoint)}),
        **({} if plan is None else build_objective(config).fingerprints()),
        **steering_fingerprints(config, tokenizer),
        **data.fingerprints,
    }
    return Inputs(tokenizer, data.evaluation, plan, fingerprints)


def load_data(
    config: Config, tokenizer: Any, *, progress: Progress | None = None, related: Iterable[Config] = (), verify: bool = False
) -> Data:
    """Tokenize and pack what a configuration names; what is in the cache is taken from there. Raises InputError for what cannot be used."""
    tokens = Tokenization(asked_data(config), tokenizer, progress, documents=build_objective(config).documents, verify=verify)
    evaluation = [
        with_set_reference(config, part, tokenizer) if isinstance(part, PreferenceSet) else part for part in build_evaluation_sets(tokens)
    ]
    refuse_extracted_completions(config, evaluation)
    training = None
    if trains(config.trainer):
        training = build_training_data(
            tokens,
            config.seed,
            evaluated={part.key: part.not_to_train_on for part in evaluation if part.not_to_train_on is not None},
            replayed_later=any(varies(some) for some in (config, *related)),
            prompt=config.adapter.tokens,
        )
        refuse_trained_completions(training, evaluation, tokenizer)
    fingerprints = {part.key: part.fingerprint for part in evaluation}
    if training is not None:
        fingerprints |= {f"data.sources.{source.name}": source.documents.fingerprint for source in training.sources}
    if tokens.has_read_conversations:
        chosen, kwargs = config.data.chat_template, config.data.chat_template_kwargs
        fingerprints["chat_template"] = template_fingerprint(chosen, tokenizer.chat_template, kwargs)
    return Data(evaluation, training, fingerprints)
