"""The plan of a recipe: which rows there are, in which order, and what is still to be asked for them.

It is a function of the recipe, the seeds, the teachers' fingerprints and what has been written. So any worker may go on with any shard, and
the rows are the same whoever wrote them, in whatever order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.config.synth_schema import StepConfig
from harness.config.validate import to_plain
from harness.evaluation.verifiers.number import number_in
from harness.evaluation.verifiers.pattern import found_in
from harness.evaluation.verifiers.verifier import BadReferenceError, Verifier
from harness.synthesis.json_in_text import first_json
from harness.synthesis.recipe import Recipe
from harness.synthesis.recipe_checks import JSON, kind_of, verifier_of
from harness.synthesis.row import Row, Tokens
from harness.synthesis.seeds import Seeds, hash_of
from harness.synthesis.template import RowTemplateError

Records = Mapping[tuple[str, str], Mapping[str, Any]]
"""What has been written, by step and id, see `Ask`: {text, finish, tokens: [prompt, generated]}, {score, tokens} or {error}."""


@dataclass(frozen=True)
class Ask:
    """What a teacher is to write, or a text whose likelihood it is to give."""

    id: str
    """Names the record, and keys its noise."""
    prompt: str
    system: str | None = None
    answer: str | None = None
    """Only of nll: the text that is looked at."""


@dataclass(frozen=True)
class Draft:
    """A row on its way."""

    row: Row
    dropped: tuple[str, Any] | None = None
    """The rule by which it went, and the value that broke it."""


class Plan:
    """The rows of a recipe, in shards of whole combinations of seeds."""

    def __init__(self, recipe: Recipe, seeds: Seeds, fingerprints: Mapping[str, str]) -> None:
        """fingerprints: of the teachers, by name."""
        self.recipe, self.seeds, self.teachers = recipe, seeds, dict(fingerprints)
        self.keys = _step_keys(recipe, fingerprints)
        """By step that asks a teacher: hash of all that what it writes depends on, the row aside."""
        self._verifiers = {name: verifier_of(recipe.config, name) for name, step in recipe.config.steps.items() if step.verify is not None}
        self._size = max(1, recipe.config.shard_rows // recipe.draws)

    @property
    def shards(self) -> int:
        return -(-len(self.seeds) // self._size)

    @property
    def asks(self) -> int:
        """How many asks there are, unless rows are dropped on the way; new draws for what cannot be parsed aside."""
        found, rows = 0, len(self.seeds)
        for name, step in self.recipe.config.steps.items():
            rows *= step.draws
            found += rows if name in self.keys else 0
        return found

    def begin(self, shard: int) -> list[Draft]:
        """The rows of a shard before the first step."""
        found = []
        for index in range(shard * self._size, min(len(self.seeds), (shard + 1) * self._size)):
            seed, fields = self.seeds[index]
            found.append(Draft(Row(seed.content, seed.content, 0, seed, "", self.recipe.answer, fields)))
        return found

    def rounds(self, step: str) -> int:
        """How often a step asks: once, and again for what cannot be parsed."""
        return 1 + self.recipe.config.steps[step].retries

    def asks_of(self, drafts: Sequence[Draft], step: str, records: Records | None = None, round_: int = 0) -> list[Ask]:
        """All that a step asks in a round, in the order of the rows: a function of what the rounds before it brought."""
        tries = [self._tries(step, ask, records or {}) for draft in drafts for ask in self._asks(draft, step)[0]]
        return [asked[round_] for asked in tries if len(asked) > round_]

    def after(self, drafts: Sequence[Draft], step: str, records: Records) -> list[Draft]:
        """The rows behind a step; those of which nothing was written yet are left out."""
        return [after for draft in drafts for after in self._after(draft, step, records)]

    def rows(self, shard: int, records: Records) -> list[Draft]:
        """The rows of a shard behind all steps."""
        drafts = self.begin(shard)
        for step in self.recipe.config.steps:
            drafts = self.after(drafts, step, records)
        return drafts

    def _asks(self, draft: Draft, step: str) -> tuple[list[Ask], str | None]:
        """What is asked for a row, a draw each; or why its template fails."""
        if draft.dropped is not None or step not in self.keys:
            return [], None
        config, row = self.recipe.config.steps[step], draft.row
        if kind_of(config) == "nll":
            return [Ask(hash_of([self.keys[step], row.id]), row.prompt, answer=str(row.value(config.field or row.answer)))], None
        try:
            prompt = self._text(step, "judge" if config.judge is not None else "template", row)
            system = None if config.system is None else self._text(step, "system", row)
        except RowTemplateError as error:
            return [], str(error)
        return [Ask(hash_of([self.keys[step], row.id, draw]), prompt, system) for draw in range(config.draws)], None

    def _tries(self, step: str, first: Ask, records: Records) -> list[Ask]:
        """What is asked for one draw: new draws follow as long as what was written cannot be parsed. The last one's record counts."""
        asked, config = [first], self.recipe.config.steps[step]
        while len(asked) < self.rounds(step) and (record := records.get((step, asked[-1].id))) is not None:
            # A text that was cut is not drawn again, even where filters keep it: what is asked does not depend on filters.
            if record.get("finish") != "stop" or _parsed(config, record["text"]) is not None:
                break
            asked.append(replace(first, id=hash_of([first.id, len(asked)])))
        return asked

    def _text(self, step: str, key: str, row: Row) -> str:
        return self.recipe.templates[step, key].render(row.fields)

    def _after(self, draft: Draft, step: str, records: Records) -> Iterable[Draft]:
        config = self.recipe.config.steps[step]
        asks, problem = self._asks(draft, step)
        if draft.dropped is not None:
            yield draft
        elif problem is not None:
            yield replace(draft, dropped=("template", problem))
        elif step in self._verifiers:
            yield _verified(draft, step, config, self._verifiers[step])
        for draw, first in enumerate(asks):
            *given_up, ask = self._tries(step, first, records)
            record = records.get((step, ask.id))
            if record is None:
                continue
            row = replace(draft.row, tokens=sum((_tokens(records[step, one.id]) for one in (*given_up, ask)), draft.row.tokens))
            if config.template is not None:
                yield self._written(replace(row, id=first.id, group=row.id, draw=draw), step, ask, record)
            else:
                yield _scored(replace(row, provenance=self._provenance(row, step, ask, record)), step, config, record)

    def _written(self, row: Row, step: str, ask: Ask, record: Mapping[str, Any]) -> Draft:
        config = self.recipe.config.steps[step]
        row = replace(row, prompt=ask.prompt, provenance=self._provenance(row, step, ask, record))
        if "error" in record:
            return Draft(row, ("refused", record["error"]))
        text, finish = record["text"], record["finish"]
        value = _parsed(config, text)
        row = replace(
            row,
            fields={**row.fields, step: text if value is None else value},
            finish="length" if "length" in (row.finish, finish) else finish,
            written={**row.written, step: _tokens(record).generated},
        )
        if finish not in self.recipe.config.filters.finish:
            return Draft(row, ("finish", finish))
        return Draft(row, ("parse", text) if value is None else None)

    def _provenance(self, row: Row, step: str, ask: Ask, record: Mapping[str, Any]) -> dict[str, Any]:
        """That of a row, and of a step that a teacher answered: `id` of the ask, hashes of the step and of the teacher."""
        served = {"served": record["served"]} if "served" in record else {}
        origin = {"id": ask.id, "step": self.keys[step], "teacher": self.teachers[self.recipe.teacher_of(step)], **served}
        return {**row.provenance, step: origin}


def _scored(row: Row, step: str, config: StepConfig, record: Mapping[str, Any]) -> Draft:
    if "error" in record:
        return Draft(row, ("refused", record["error"]))
    if config.nll is not None:
        return Draft(replace(row, scores={**row.scores, step: record["score"]}))
    number = _parsed(config, record["text"])
    if number is None:
        return Draft(row, ("parse", record["text"]))
    return Draft(replace(row, scores={**row.scores, step: float(number)}))


def _tokens(record: Mapping[str, Any]) -> Tokens:
    return Tokens(*record.get("tokens", (0, 0)))


def _parsed(config: StepConfig, text: str) -> Any:
    """The field that a step makes of a text, of a judge's answer its number; None where there is none."""
    found = text if config.parse is None else first_json(text) if config.parse == JSON else found_in(text, config.parse)
    if found is None or not found.strip():
        return None
    return found if config.judge is None else number_in(found)


def _verified(draft: Draft, step: str, config: StepConfig, verifier: Verifier) -> Draft:
    row = draft.row
    given = row.value(config.reference) if config.reference is not None else None
    several = given if verifier.several and isinstance(given, list) else [given]
    try:
        references = [verifier.reference(one) for one in several]
    except BadReferenceError as error:
        return replace(draft, dropped=("reference", str(error)))
    text = str(row.value(config.field or row.answer))
    return replace(draft, row=replace(row, scores={**row.scores, step: float(any(verifier.holds(text, one) for one in references))}))


def _step_keys(recipe: Recipe, fingerprints: Mapping[str, str]) -> dict[str, str]:
    keys, before = {}, list[Any]()
    for name, step in recipe.config.steps.items():
        kind = kind_of(step)
        if kind == "verify":
            continue
        teacher = fingerprints[recipe.teacher_of(name)]
        if kind == "nll":
            keys[name] = hash_of(["nll", teacher, step.field, before])
            continue
        sampling = to_plain(recipe.sampling_of(name))
        del sampling["name"]  # what an arm of a study is called
        texts = [step.template, step.judge, step.system]
        keys[name] = hash_of([kind, texts, teacher, sampling, step.max_new_tokens, step.stop, before])
        # What later steps read of this one.
        before = [*before, [name, step.parse, recipe.config.filters.finish]]
    return keys
