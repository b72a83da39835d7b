"""Teachers of a recipe: models that write its rows, and judge them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from harness.config.errors import InputError
from harness.config.schema import Config
from harness.synthesis.plan import Ask
from harness.synthesis.recipe import Recipe
from harness.synthesis.seeds import hash_of
from harness.work.generate import model_identity, writing_config

if TYPE_CHECKING:
    from harness.generation.engine import Engine
    from harness.generation.prompts import PromptReader
    from harness.generation.rows import Limits, Prompt
    from harness.training.evaluation import EvaluatedModel
    from harness.work.synth_endpoint import EndpointTeacher

Record = dict[str, Any]


@dataclass(frozen=True)
class Lot:
    """What a step asks of a teacher at a time, after the teacher has looked at it."""

    asks: Sequence[Ask]
    refused: Sequence[Record]
    """Records of those that it cannot answer."""
    most_tokens: int
    """What the answers can cost at most, prompts and all."""
    at_risk: int
    """What a kill can lose at most: of the answers that are under way together."""
    prompts: Mapping[str, Any]
    """What the teacher makes of each ask, by its id."""


class Teacher(Protocol):
    """A model that answers."""

    def fingerprint(self) -> str:
        """Of all that its answers depend on, prompts and sampling aside."""

    def look_at(self, step: str, asks: Sequence[Ask]) -> Lot:
        """What answering would cost. Raises InputError for what makes every answer impossible."""

    def answer(self, step: str, lot: Lot) -> Iterator[Record]:
        """The records, as they come: {step, id, text, finish, tokens: [prompt, generated]}; with score in place of text and finish where a
        likelihood is asked for; or {step, id, error}. And lost: tokens that attempts before it may have cost."""

    @property
    def rewrites(self) -> bool:
        """Whether all of a shard has to be asked again where some of it is missing: its answers depend on each other."""

    @property
    def wrote_nothing(self) -> bool:
        """Of one whose `answer` has raised: whether it is known that nothing was begun."""


class LocalTeacher:
    """A model of this machine, read by our own engine."""

    wrote_nothing = False

    def __init__(self, recipe: Recipe, name: str) -> None:
        """Raises InputError for a model that cannot be used."""
        self._recipe, self._config, self._name = recipe, recipe.config.teachers[name], name
        self._stack = ExitStack()

    @cached_property
    def config(self) -> Config:
        """Its configuration."""
        try:
            return writing_config(self._config.model, self._config.overrides)
        except InputError as error:
            raise InputError("\n".join(f"teachers.{self._name}: {line}" for line in str(error).splitlines())) from None

    @cached_property
    def _tokenizer(self) -> Any:
        from harness.models.tokenizer import load_tokenizer

        return load_tokenizer(self.config)

    @cached_property
    def _chat(self) -> bool:
        from harness.generation.build import answers_turns

        return answers_turns(self.config, self._tokenizer) if self._config.chat is None else self._config.chat

    @cached_property
    def _model(self) -> EvaluatedModel:
        from harness.training.writer import reading

        return self._stack.enter_context(reading(self.config, self._tokenizer, alone=True))

    @property
    def _engine(self) -> Engine:
        return self._model.engine

    @cached_property
    def _prompts(self) -> PromptReader:
        from harness.generation.prompts import PromptReader

        return PromptReader(self.config.data, self._tokenizer, chat=self._chat)

    def fingerprint(self) -> str:
        from harness.models.tokenizer import tokenizer_fingerprint

        identity = model_identity(self.config, tokenizer_fingerprint(self._tokenizer))
        data = self.config.data
        how = [self._chat, data.chat_template, data.chat_template_kwargs, data.split_special_tokens]
        return hash_of([identity, how, None if self.config.trainer.precision == "32-true" else self._recipe.config.shard_rows])

    @property
    def rewrites(self) -> bool:
        return not self._engine.is_exact

    def look_at(self, step: str, asks: Sequence[Ask]) -> Lot:
        from harness.data.chat.conversation import MalformedError

        config = self._recipe.config.steps[step]
        if config.nll is not None:
            return self._look_at_texts(step, asks)
        self._engine.refuse_endless(self._limits(step), f"steps.{step}.stop")
        prompts: dict[str, Prompt] = {}
        kept, refused = [], list[Record]()
        for ask in asks:
            try:
                prompt = self._prompt(ask)
                self._engine.refuse("the prompt", prompt.token_ids)
            except (MalformedError, InputError) as error:
                refused.append({"step": step, "id": ask.id, "error": str(error)})
                continue
            kept.append(ask)
            prompts[ask.id] = prompt
        lengths = [len(prompts[ask.id].token_ids) for ask in kept]
        costs = [length + config.max_new_tokens for length in lengths]
        # Rows of a batch, as the engine takes them in; where they depend on each other, all are written anew.
        together = max(1, self.config.trainer.evaluation_batch_tokens // min(costs)) if costs else 0
        at_risk = sum(sorted(costs, reverse=True)[: together if self._engine.is_exact else len(costs)])
        return Lot(kept, refused, sum(costs), at_risk, prompts)

    def _prompt(self, ask: Ask) -> Prompt:
        from harness.data.chat.conversation import Conversation, MalformedError, Message

        if ask.system is None:
            return self._prompts.of_text(ask.prompt, prompt_id=ask.id)
        if not self._chat:
            raise MalformedError(f"teachers.{self._name} goes on from texts, and hears no system message; valid: a step without system")
        return self._prompts.of_conversation(Conversation((Message("system", ask.system), Message("user", ask.prompt))), prompt_id=ask.id)

    def answer(self, step: str, lot: Lot) -> Iterator[Record]:
        from harness.generation.rows import Draw

        if self._recipe.config.steps[step].nll is not None:
            yield from self._likelihoods(step, lot)
            return
        engine = self._engine.with_sampling(self._recipe.sampling_of(step))
        rows = [Draw(lot.prompts[ask.id], 0) for ask in lot.asks]
        for text in engine.write(rows, self._limits(step)):
            read = len(lot.prompts[text.id].token_ids)
            yield {"step": step, "id": text.id, "text": text.text, "finish": text.finish, "tokens": [read, text.tokens]}

    def _limits(self, step: str) -> Limits:
        from harness.generation.rows import Limits

        config = self._recipe.config.steps[step]
        return Limits(config.max_new_tokens, tuple(config.stop))

    def _look_at_texts(self, step: str, asks: Sequence[Ask]) -> Lot:
        from harness.work.synth_likelihood import read_texts

        texts = read_texts(asks, self.config.data, self._tokenizer, chat=self._chat)
        longest = self._engine.longest_prompt
        refused, kept = [], list[Ask]()
        for ask in asks:
            problem = texts[ask.id].problem(longest)
            if problem is None:
                kept.append(ask)
            else:
                refused.append({"step": step, "id": ask.id, "error": problem})
        tokens = sum(len(texts[ask.id].ids) for ask in kept)
        return Lot(kept, refused, tokens, tokens, texts)

    def _likelihoods(self, step: str, lot: Lot) -> Iterator[Record]:
        from harness.work.synth_likelihood import nats_per_token

        texts = [lot.prompts[ask.id] for ask in lot.asks]
        for ask, text, nats in zip(lot.asks, texts, nats_per_token(texts, self._model), strict=True):
            yield {"step": step, "id": ask.id, "score": nats, "tokens": [len(text.ids), 0]}

    def close(self) -> None:
        """Let go of the model."""
        self._stack.close()
        self.__dict__.pop("_model", None)  # who asks again reads it anew


class Teachers:
    """The teachers of a recipe, each loaded when it is first asked."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._made: dict[str, LocalTeacher | EndpointTeacher] = {}

    def __getitem__(self, name: str) -> Teacher:
        if name not in self._made:
            self._made[name] = self._build(name)
        return self._made[name]

    def _build(self, name: str) -> LocalTeacher | EndpointTeacher:
        if self._recipe.config.teachers[name].endpoint is None:
            return LocalTeacher(self._recipe, name)
        from harness.work.synth_endpoint import EndpointTeacher

        return EndpointTeacher(self._recipe, name)

    def fingerprints(self) -> dict[str, str]:
        """Of all teachers, by name. Raises InputError for one that cannot be used."""
        return {name: self[name].fingerprint() for name in self._recipe.config.teachers}

    def close(self) -> None:
        for teacher in self._made.values():
            teacher.close()
