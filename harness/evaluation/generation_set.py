"""Prompts, what is measured of the texts that a model writes after them, and when a text is right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress
from typing import Any

import numpy as np

from harness.config.errors import InputError, wrong_value
from harness.config.schema import GenerationConfig
from harness.data.row import Row
from harness.data.tokenization import Tokenization
from harness.evaluation.evaluation_set import Advance, Chosen, EvaluationSet, LanguageModel, Measured, fitting
from harness.evaluation.text_statistics import adjusted_distinct, all_at, distinct, pass_at, repetition, self_bleu, zlib_ratio
from harness.evaluation.verifiers.build import build_verifier
from harness.evaluation.verifiers.verifier import BadReferenceError, Verifier
from harness.generation.prompts import PromptReader, PromptRow, fields_in
from harness.generation.rows import Generation, Limits, Prompt
from harness.runs.generations import WrittenText

REFERENCE_FIELDS = (
    *("reference", "references", "answer", "answers", "target", "solution"),
    *("completion", "output", "response"),
)
COMPARED_TOKENS = 64
"""Of each text, for what differs between texts: all that is counted there grows or falls with length."""
REPEATED = 4
"""Tokens in the n-grams of repetition."""


@dataclass(frozen=True, eq=False)
class GenerationSet(EvaluationSet):
    """Prompts with references.

    Measures, with a verifier, accuracy (the share of right texts), pass_at/k and all_at/k; stopped, the share of texts that ended by
    themselves; length, in tokens; repetition, the share of a text's 4-grams that it had before. And of the first 64 tokens of the texts
    after one prompt, in their mean over prompts (of all texts where there is one a prompt): distinct_1 to distinct_4, ead, self_bleu; of
    the same texts in whole, zlib_ratio. Grams are of the model's own tokens: compare models of one tokenizer in them.
    """

    section = "generation"
    is_sampled = writes = True
    name: str
    config: GenerationConfig
    prompts: tuple[Prompt, ...]
    references: tuple[tuple[Any, ...], ...]
    """Of each prompt, as the verifier reads them: any may be met. Empty without a verifier."""
    given: tuple[Any, ...]
    """Of each prompt, its reference as the row has it."""
    verifier: Verifier | None
    vocabulary: int
    """Tokens that the tokenizer has."""

    @property
    def documents(self) -> int:
        return len(self.prompts)

    def only(self, chosen: Chosen, name: str) -> GenerationSet:
        prompts, references, given = (tuple(compress(part, chosen)) for part in (self.prompts, self.references, self.given))
        return replace(self, name=name, prompts=prompts, references=references, given=given)

    @property
    def every_evaluations(self) -> int | None:  # type: ignore[override]
        return self.config.every_evaluations

    @property
    def limits(self) -> Limits:
        return Limits(self.config.max_new_tokens, tuple(self.config.stop))

    @property
    def largest_id(self) -> int:
        return max(max(prompt.token_ids) for prompt in self.prompts)

    @property
    def prompt_tokens(self) -> int:
        return sum(len(prompt.token_ids) for prompt in self.prompts)

    @property
    def tokens_read(self) -> int:
        return self.prompt_tokens + self.size * self.config.max_new_tokens

    @property
    def size(self) -> int:
        return len(self.prompts) * self.config.draws

    @property
    def limit(self) -> tuple[str, str]:
        return f"{self.key}.max_prompts", f"{len(self.prompts):,} prompts, {self.size:,} texts"

    def summary(self) -> dict[str, int]:
        return {
            "prompts": len(self.prompts),
            "texts": self.size,
            "prompt_tokens": self.prompt_tokens,
            "new_tokens": self.size * self.config.max_new_tokens,
        }

    @cached_property
    def fingerprint(self) -> str:
        config = self.config
        fixed = None if self.verifier is None else self.verifier.fixed
        how = [config.verifier, fixed, config.draws, config.pass_at, config.max_new_tokens, config.stop]
        prompts = [[prompt.id, prompt.token_ids] for prompt in self.prompts]
        return hashlib.sha256(json.dumps([how, prompts, self.given], sort_keys=True, default=repr).encode()).hexdigest()

    def measure(self, model: LanguageModel, advance: Advance) -> Measured:
        written = model.write(self.prompts, draws=self.config.draws, limits=self.limits, advance=advance)
        draws = self.config.draws
        scores = [self._score(one.text, index // draws) for index, one in enumerate(written)]
        texts = [
            WrittenText(self.name, one.id, self.prompts[index // draws].text, one.draw, one.text, one.tokens, one.finish, score)
            for index, (one, score) in enumerate(zip(written, scores, strict=True))
        ]
        right = [score for score in scores if score is not None]
        return Measured({**(self._accuracies(right) if self.verifier else {}), **self._statistics(written)}, texts)

    def _score(self, text: str, prompt: int) -> float | None:
        """1 where a text is right, 0 where it is not; None without a verifier."""
        if self.verifier is None:
            return None
        holds = self.verifier.holds
        return float(any(holds(text, reference) for reference in self.references[prompt]))

    def _accuracies(self, scores: Sequence[float]) -> dict[str, float]:
        draws = self.config.draws
        right = np.array(scores).reshape(-1, draws).sum(axis=1).astype(int).tolist()
        values = {"accuracy": sum(right) / len(scores)}
        for k in self.config.pass_at:
            values[f"pass_at/{k}"] = float(np.mean([pass_at(k, each, draws) for each in right]))
            values[f"all_at/{k}"] = float(np.mean([all_at(k, each, draws) for each in right]))
        return values

    def _statistics(self, written: Sequence[Generation]) -> dict[str, float]:
        values = {
            "repetition": float(np.mean([repetition(one.token_ids, REPEATED) for one in written])),
            "stopped": float(np.mean([one.finish == "stop" for one in written])),
            "length": float(np.mean([one.tokens for one in written])),
        }
        groups = [[one.token_ids[:COMPARED_TOKENS] for one in group] for group in self._groups(written)]
        values["zlib_ratio"] = float(np.mean([zlib_ratio([one.text for one in group]) for group in self._groups(written)]))
        for n in range(1, 5):
            values[f"distinct_{n}"] = float(np.mean([distinct(group, n) for group in groups]))
        values["ead"] = float(np.mean([adjusted_distinct(group, self.vocabulary) for group in groups]))
        values["self_bleu"] = float(np.mean([np.mean(self_bleu(group)) for group in groups]))
        return values

    def _groups(self, written: Sequence[Generation]) -> Iterator[Sequence[Generation]]:
        """Texts that are compared with each other: those after one prompt; all, where there is one after each."""
        size = self.config.draws if self.config.draws > 1 else len(written)
        for start in range(0, len(written), size):
            yield written[start : start + size]


def build_generation_set(name: str, config: GenerationConfig, tokens: Tokenization) -> GenerationSet:
    """The set of data.generation.<name>.

    Raises InputError for what cannot be read, a prompt that leaves no room in the context, and, with a verifier, for a row without a
    reference, or with one that nothing can be compared with.
    """
    data, key = tokens.config, f"data.generation.{name}"
    verifier = build_verifier(config, key=key)
    chat = tokens.documents == "conversations" if config.chat is None else config.chat
    reader = PromptReader(data, tokens.tokenizer, chat=chat)
    asking = PromptReader(data, tokens.tokenizer, chat=chat, instruction=config.instruction)
    to_call = config.verifier == "tool_call"
    asked = _Reference(config, key)
    files = tokens.files(key, config).files
    found: list[tuple[bytes, PromptRow, Any, tuple[Any, ...]]] = []
    for row in reader.of_rows(files, key=key, prompt=config.prompt, also=asked.fields, to_call=to_call):
        place = _hash(row.prompt)
        if config.instruction is not None:
            # Under the same id and in the same place, so that texts stand beside those without it.
            instructed, _ = asking.of_row(row.row, config.prompt, to_call=to_call)
            row = row._replace(prompt=replace(instructed, id=row.prompt.id))
        length = len(row.prompt.token_ids)
        if length >= data.context_length:
            raise InputError(
                f"{row.row.where}: a prompt of {length:,} tokens leaves no room to write in data.context_length={data.context_length:,}; "
                "valid: a shorter one, or a longer context"
            )
        given = asked.of(row) if verifier is not None and verifier.needs_reference else None
        found.append((place, row, given, () if verifier is None else _read(verifier, given, row.row)))
    found = sorted(found, key=lambda one: one[0])
    if config.skip_prompts >= len(found):
        raise wrong_value(f"{key}.skip_prompts", config.skip_prompts, f"there are {len(found)} prompts; valid: less, or more data")
    found = found[config.skip_prompts :][: config.max_prompts]
    costs = [len(row.prompt.token_ids) + config.draws * config.max_new_tokens for _, row, _, _ in found]
    found = found[: fitting(costs, data.max_evaluation_tokens, f"the first prompt of {key} and its texts")]
    return GenerationSet(
        name=name,
        config=config,
        prompts=tuple(row.prompt for _, row, _, _ in found),
        references=tuple(references for *_, references in found),
        given=tuple(given for _, _, given, _ in found),
        verifier=verifier,
        vocabulary=tokens.tokenizer.backend_tokenizer.get_vocab_size(with_added_tokens=True),
    )


def _hash(prompt: Prompt) -> bytes:
    return hashlib.blake2b(f"{prompt.id}\0{prompt.text}".encode(), digest_size=8).digest()


@dataclass(frozen=True)
class _Reference:
    """Where rows have their references."""

    config: GenerationConfig
    key: str

    @property
    def fields(self) -> tuple[str, ...]:
        if self.config.verifier is None:
            return ()
        own = {"regex": ("pattern",), "json_schema": ("schema",), "tool_call": ("tool_calls",)}.get(self.config.verifier, ())
        return (self.config.reference,) if self.config.reference is not None else (*own, *REFERENCE_FIELDS)

    def of(self, row: PromptRow) -> Any:
        """Raises InputError for a row without one."""
        for name in self.fields:
            if row.row.values.get(name) is not None and name != self.config.prompt:
                if name in fields_in(self.config.prompt):
                    raise InputError(
                        f"{self.key}.prompt={self.config.prompt}: holds the reference, {{{name}}}; "
                        f"valid: {{{{{name}}}}} where the braces are text, or another field as {self.key}.reference"
                    )
                return row.row.values[name]
        if row.answer is not None and self.config.reference is None:
            return list(row.answer.tool_calls) if self.config.verifier == "tool_call" else row.answer.content
        raise InputError(
            f"{row.row.where}: no reference for {self.key}.verifier={self.config.verifier}: none of the fields {', '.join(self.fields)} "
            f"(fields there: {', '.join(row.row.fields)}); valid: such a field, or another as {self.key}.reference"
        )


def _read(verifier: Verifier, given: Any, row: Row) -> tuple[Any, ...]:
    """A row's references. Raises InputError for those that nothing can be compared with."""
    several = given if verifier.several and isinstance(given, list) else [given]
    if not several:
        raise InputError(f"{row.where}: its reference is an empty array; valid: at least one that a text may meet")
    try:
        return tuple(verifier.reference(one) for one in several)
    except BadReferenceError as error:
        raise InputError(f"{row.where}: its reference is {error}") from error
