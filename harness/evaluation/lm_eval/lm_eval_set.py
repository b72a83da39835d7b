"""Tasks of lm_eval as an evaluation set."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np

from harness.config.errors import InputError, wrong_value
from harness.config.schema import LmEvalConfig
from harness.data.chat.conversation import Conversation, MalformedError, Message, Role
from harness.data.chat.encoder import build_chat_encoder
from harness.data.tokenization import Tokenization
from harness.evaluation.evaluation_set import Advance, Chosen, EvaluationSet, LanguageModel, Measured
from harness.evaluation.lm_eval.loaded import ChatTemplate, build_requests, known_metrics, load_task, values_of
from harness.evaluation.lm_eval.read_tasks import read_tasks
from harness.evaluation.lm_eval.requests import RequestReader, Scored, Written
from harness.evaluation.lm_eval.task_files import Code, GroupFile, TaskFile, groups, leaves, logged_name
from harness.evaluation.lm_eval.trusted import refuse_untrusted
from harness.evaluation.scored_texts import ScoredTexts
from harness.generation.rows import Generation, Limits
from harness.runs.cache import default_cache_dir
from harness.runs.generations import WrittenText

Values = dict[tuple[str, str], float]
"""By metric and filter."""
Request = tuple[Scored, ...] | Written
"""A text, the windows of a long one; or a prompt."""


@dataclass(frozen=True, eq=False)
class AskedTask:
    """A task with its requests."""

    file: TaskFile
    task: Any
    """lm_eval's own."""
    kinds: tuple[str, ...]
    """Of each request, as lm_eval calls it."""
    documents: tuple[int, ...]
    """Of each request, the number of its document."""
    requests: tuple[Request, ...]


@dataclass(frozen=True, eq=False)
class LmEvalSet(EvaluationSet):
    """Tasks, with the metrics that they define: <task>/<metric>, or <task>/<metric>/<filter>; of groups the means that these define."""

    section = "lm_eval"
    name: str
    config: LmEvalConfig
    read: tuple[TaskFile | GroupFile, ...]
    tasks: tuple[AskedTask, ...]

    @property
    def every_evaluations(self) -> int | None:  # type: ignore[override]
        return self.config.every_evaluations

    @property
    def writes(self) -> bool:  # type: ignore[override]
        return any(self._written)

    @property
    def _scored(self) -> Iterator[Scored]:
        return (window for asked in self.tasks for one in asked.requests if not isinstance(one, Written) for window in one)

    @property
    def _written(self) -> Iterator[Written]:
        return (one for asked in self.tasks for one in asked.requests if isinstance(one, Written))

    @cached_property
    def texts(self) -> ScoredTexts:
        """All that is scored, in order."""
        scored = list(self._scored)
        return ScoredTexts.of_ends(
            np.fromiter(chain.from_iterable(one.ids for one in scored), dtype=np.int64),
            np.array([len(one.ids) for one in scored], dtype=np.int64),
            np.array([one.count for one in scored], dtype=np.int64),
        )

    @property
    def largest_id(self) -> int:
        return max(chain(*(one.ids for one in self._scored), *(one.prompt.token_ids for one in self._written)), default=0)

    @property
    def tokens_read(self) -> int:
        return sum(cost_of(one) for asked in self.tasks for one in asked.requests)

    @property
    def size(self) -> int:
        return len(self.texts.lengths) + sum(one.draws for one in self._written)

    @property
    def documents(self) -> int:
        return sum(len(set(asked.documents)) for asked in self.tasks)

    @property
    def limit(self) -> tuple[str, str]:
        return f"{self.key}.limit", f"{self.documents:,} documents, {self.size:,} requests"

    def summary(self) -> dict[str, int]:
        written = list(self._written)
        return {
            "tasks": len(self.tasks),
            "documents": self.documents,
            "requests": self.size,
            "tokens": self.tokens_read,
            "new_tokens": sum(one.draws * one.limits.max_new_tokens for one in written),
            "truncated": sum(one.truncated for one in self._scored) + sum(one.truncated for one in written),
        }

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for asked in self.tasks:
            digest.update(json.dumps([asked.file.name, asked.file.values], sort_keys=True, default=_told).encode())
            digest.update(repr(asked.requests).encode())
            documents = {instance.doc_id: instance.doc for instance in asked.task.instances}
            digest.update(json.dumps([*documents.values()], sort_keys=True, default=str).encode())
        return digest.hexdigest()

    def only(self, chosen: Chosen, name: str) -> EvaluationSet:
        raise InputError(f"{self.key}: tasks of lm_eval have no part that is kept for the report; valid: data.report_share=0 beside them")

    def measure(self, model: LanguageModel, advance: Advance) -> Measured:
        likelihoods, best = self.texts.log_likelihoods_and_hits(model, advance)
        scored = iter(list(zip(likelihoods.tolist(), best.tolist(), strict=True)))
        written = self._write(model, advance)
        values: dict[str, Values] = {}
        sizes: dict[str, int] = {}
        for asked in self.tasks:
            answers = [list(self._answer(kind, one, scored, written)) for kind, one in zip(asked.kinds, asked.requests, strict=True)]
            values[asked.file.name], sizes[asked.file.name] = values_of(asked.task, asked.file, answers, key=f"{self.key}.tasks")
        for group in groups(self.read):
            values[group.name] = _means(group, values, sizes)
        texts = [
            WrittenText(f"lm_eval/{self.name}", one.id, asked.prompt.text, one.draw, one.text, one.tokens, one.finish)
            for asked in self._written
            for one in written[asked.prompt.id]
        ]
        metrics = {f"{name}/{logged_name(*place)}": value for name, found in values.items() for place, value in found.items()}
        return Measured(metrics, texts)

    def _answer(
        self, kind: str, request: Request, scored: Iterator[tuple[float, bool]], written: Mapping[str, Sequence[Generation]]
    ) -> Iterator[Any]:
        """To one request, as often as it is asked, in the form that lm_eval reads."""
        if isinstance(request, Written):
            yield from (one.text for one in written[request.prompt.id])
            return
        found = [next(scored) for _ in request]
        yield sum(value for value, _ in found) if kind == "loglikelihood_rolling" else found[0]

    def _write(self, model: LanguageModel, advance: Advance) -> dict[str, list[Generation]]:
        """The texts after each prompt, by its id. Those that are asked for in one way are written together."""
        alike: dict[tuple[Limits, str, int], list[Written]] = defaultdict(list)
        for one in self._written:
            alike[one.limits, repr(one.sampling), one.draws].append(one)
        found: dict[str, list[Generation]] = defaultdict(list)
        for (limits, _, draws), asked in alike.items():
            prompts, sampling = [one.prompt for one in asked], asked[0].sampling
            for text in model.write(prompts, draws=draws, limits=limits, advance=advance, sampling=sampling):
                found[text.id].append(text)
        return found


def cost_of(request: Request) -> int:
    """Tokens that it reads, and at most writes."""
    if isinstance(request, Written):
        return len(request.prompt.token_ids) + request.draws * request.limits.max_new_tokens
    return sum(len(window.ids) for window in request)


def build_lm_eval_set(name: str, config: LmEvalConfig, tokens: Tokenization) -> LmEvalSet:
    """The set of data.lm_eval.<name>.

    Raises InputError for tasks that cannot be read or used, and for those that would run code which nobody asked for.
    """
    key = f"data.lm_eval.{name}"
    cache_dir = default_cache_dir(tokens.config.cache_dir)
    read = read_tasks(config.tasks, key=f"{key}.tasks", cache_dir=cache_dir)
    metrics = known_metrics()
    for file in leaves(read):
        refuse_untrusted(file, metrics, key=f"{key}.tasks")
    chat = tokens.documents == "conversations" if config.chat is None else config.chat
    template = _template(tokens) if chat else None
    reader = RequestReader(tokens.tokenizer, tokens.config.context_length, max_new_tokens=config.max_new_tokens, is_chat=chat)
    asked = []
    for file in leaves(read):
        task = load_task(file, key=f"{key}.tasks", num_fewshot=config.num_fewshot, cache_dir=cache_dir / "datasets")
        asked.append(_asked(file, task, config.limit, reader, template, f"{key}.tasks"))
    most = tokens.config.max_evaluation_tokens
    if most is not None:
        fitting = _fitting(asked, most, key)
        asked = [
            one if kept == len(set(one.documents)) else _asked(one.file, one.task, kept, reader, template, f"{key}.tasks")
            for one, kept in zip(asked, fitting, strict=True)
        ]
    return LmEvalSet(name, config, tuple(read), tuple(asked))


def _asked(file: TaskFile, task: Any, limit: int | None, reader: RequestReader, template: ChatTemplate | None, key: str) -> AskedTask:
    instances = build_requests(task, file, key=key, limit=limit, template=template)
    requests = tuple(_request(instance, number, reader, f"{key}: {file.name}") for number, instance in enumerate(instances))
    kinds = tuple(instance.request_type for instance in instances)
    return AskedTask(file, task, kinds, tuple(instance.doc_id for instance in instances), requests)


def _request(instance: Any, number: int, reader: RequestReader, key: str) -> Request:
    where = f"{key}, document {instance.doc_id}"
    match instance.request_type:
        case "loglikelihood":
            context, continuation = instance.args[:2]
            return (reader.scored(context, str(continuation), where),)
        case "loglikelihood_rolling":
            return tuple(reader.rolling(instance.args[0], where))
        case "generate_until":
            context, asked = instance.args[:2]
            name = f"{instance.task_name}/{instance.doc_id}" + (f"/{instance.idx}" if instance.idx else "")
            return reader.written(context, asked, name=name, draws=instance.repeats or 1, where=where)
        case other:
            raise InputError(f"{where}: asks for {other}; valid: loglikelihood, loglikelihood_rolling, generate_until")


def _template(tokens: Tokenization) -> ChatTemplate:
    """Messages as text, up to the turn that is to be written."""
    encoder = build_chat_encoder(tokens.config, tokens.tokenizer)

    def render(messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        if not add_generation_prompt:
            raise ValueError("it begins the answer itself (gen_prefix), which a conversation cannot; valid: .chat=false")
        try:
            return encoder.encode_prompt(Conversation(tuple(Message(cast(Role, one["role"]), one["content"]) for one in messages)))[0]
        except MalformedError as error:
            raise ValueError(str(error)) from None

    return render


def _fitting(asked: Sequence[AskedTask], most: int, key: str) -> list[int]:
    """How many documents of each task fit into `most` tokens together, taken in turn."""
    costs: list[list[int]] = []
    for one in asked:
        of_documents: dict[int, int] = defaultdict(int)
        for document, request in zip(one.documents, one.requests, strict=True):
            of_documents[document] += cost_of(request)
        costs.append(list(of_documents.values()))
    kept, spent = [0] * len(asked), 0
    for place in range(max(map(len, costs))):
        for index, by_document in enumerate(costs):
            if place < len(by_document):
                spent += by_document[place]
                if spent > most:
                    if 0 in kept:
                        raise wrong_value("data.max_evaluation_tokens", most, f"less than one document of each task of {key}")
                    return kept
                kept[index] += 1
    return kept


def _means(group: GroupFile, values: Mapping[str, Values], sizes: Mapping[str, int]) -> Values:
    """The group's averages over its tasks."""
    found: Values = {}
    names = [task.name for task in group.tasks]
    for average in group.averages:
        places = dict.fromkeys(place for name in names for place in values[name] if place[0] == average.metric)
        for place in places:
            if average.filters is None or place[1] in average.filters:
                having = [name for name in names if place in values[name]]
                weights = [sizes[name] if average.by_size else 1 for name in having]
                found[place] = float(np.average([values[name][place] for name in having], weights=weights))
    return found


def _told(value: Any) -> Any:
    """What a fingerprint says of a value that is none of JSON's."""
    if isinstance(value, Code):
        path: Path = value.module_path
        return [value.name, hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""]
    return str(value)
