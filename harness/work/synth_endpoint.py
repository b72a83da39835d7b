"""A teacher of a recipe behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from harness.config import documents
from harness.config.errors import InputError, wrong_value
from harness.config.locations import in_home
from harness.evaluation.verifiers.json_document import schema_of
from harness.evaluation.verifiers.verifier import BadReferenceError
from harness.synthesis.endpoint import Address, Endpoint, address_of
from harness.synthesis.endpoint_messages import OURS, Answer, Failure, Request, body_of, read_answer, seed_of, served_by
from harness.synthesis.plan import Ask
from harness.synthesis.recipe import Recipe
from harness.synthesis.seeds import hash_of
from harness.work.synth_teacher import Lot, Record

log = logging.getLogger("harness")


class EndpointTeacher:
    """A model that somebody serves; nothing of it is loaded here."""

    rewrites = False  # a request has its own seed

    def __init__(self, recipe: Recipe, name: str) -> None:
        self._recipe, self._config, self._key = recipe, recipe.config.teachers[name], f"teachers.{name}"
        self._steps = [step for step in recipe.config.steps if recipe.teacher_of(step) == name]

    @property
    def _chat(self) -> bool:
        return self._config.chat is not False

    @cached_property
    def _address(self) -> Address:
        return address_of(
            str(self._config.endpoint),
            chat=self._chat,
            key_env=self._config.key_env,
            timeout_seconds=self._config.timeout_seconds,
            config_key=self._key,
        )

    @cached_property
    def _endpoint(self) -> Endpoint:
        return Endpoint(self._address, requests=self._config.requests, attempts=self._config.attempts)

    @property
    def wrote_nothing(self) -> bool:
        return self._endpoint.wrote_nothing

    def fingerprint(self) -> str:
        """Where it is served is not of it: another node may serve it when a command goes on."""
        config = self._config
        assert self._address is not None  # a wrong one is refused before anything begins
        for step in self._steps:
            self._check_sampling(step)
        schemas = {step: schema for step in self._steps if (schema := self._schema(step)) is not None}
        return hash_of(["endpoint", config.model, config.engine, self._chat, config.extra_body, schemas])

    def _check_sampling(self, step: str) -> None:
        """Raise InputError for what the server cannot be told; say what it does otherwise than we do."""
        served = served_by(self._config.engine, self._recipe.sampling_of(step))
        for note in served.notes:
            if note.verdict == "not expressible":
                raise InputError(
                    f"steps.{step}.sampling: {note.about}: {note.why} ({self._key}.engine={self._config.engine}); valid: without it, or "
                    "the engine that serves the endpoint"
                )
            log.warning("steps.%s.sampling: %s: %s", step, note.about, note.why)
        taken = [name for name in self._config.extra_body if name in OURS or name in served.settings]
        if taken:
            problem = "the recipe says it elsewhere; valid: fields that no other key says"
            raise wrong_value(f"{self._key}.extra_body.{taken[0]}", self._config.extra_body[taken[0]], problem)

    def _schema(self, step: str) -> dict[str, Any] | None:
        """What answers have to keep to. Raises InputError."""
        path = self._recipe.config.steps[step].schema_path
        if path is None or self._recipe.config.steps[step].template is None:
            return None
        try:
            found = documents.read_json(in_home(path))
            schema_of(found)
        except OSError as error:
            raise wrong_value(f"steps.{step}.schema_path", path, f"cannot be read ({error.strerror})") from error
        except BadReferenceError as error:
            raise wrong_value(f"steps.{step}.schema_path", path, str(error)) from error
        assert isinstance(found, dict)
        return found

    def look_at(self, step: str, asks: Sequence[Ask]) -> Lot:
        kept, refused = [], list[Record]()
        for ask in asks:
            if ask.system is not None and not self._chat:
                problem = f"{self._key} goes on from texts, and hears no system message; valid: a step without system"
                refused.append({"step": step, "id": ask.id, "error": problem})
            else:
                kept.append(ask)
        requests = {ask.id: Request(ask.id, ask.prompt, ask.system) for ask in kept}
        new = self._recipe.config.steps[step].max_new_tokens
        costs = [request.most_prompt_tokens + new for request in requests.values()]
        return Lot(kept, refused, sum(costs), sum(sorted(costs, reverse=True)[: self._config.requests]), requests)

    def answer(self, step: str, lot: Lot) -> Iterator[Record]:
        """Raises InputError for what the endpoint refuses whoever asks, and EndpointDownError."""
        config, sampling, schema = self._recipe.config.steps[step], self._recipe.sampling_of(step), self._schema(step)
        settings = served_by(self._config.engine, sampling).settings

        def body(request: Request) -> dict[str, Any]:
            return body_of(
                request,
                model=self._config.model,
                chat=self._chat,
                sampling=settings,
                seed=seed_of(sampling.seed, request.id),
                max_tokens=config.max_new_tokens,
                stop=config.stop,
                schema=schema,
                extra=self._config.extra_body,
            )

        def read(request: Request, content: bytes) -> Answer | Failure:
            return read_answer(request, content, chat=self._chat, max_tokens=config.max_new_tokens)

        for found in self._endpoint.complete((lot.prompts[ask.id] for ask in lot.asks), body, read):
            record: Record = {"step": step, "id": found.id, "tokens": [found.tokens.prompt, found.tokens.generated]}
            if found.lost_attempts:
                record["lost"] = found.lost_attempts * (lot.prompts[found.id].most_prompt_tokens + config.max_new_tokens)
            if isinstance(found, Failure):
                yield {**record, "error": found.reason}
            else:
                yield {**record, "text": found.text, "finish": found.finish, "served": found.served}

    def close(self) -> None:
        """Nothing is held."""
