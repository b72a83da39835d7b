"""A multiple-choice set as token sequences, one a choice: the same for every trial."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import compress

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from harness.config.errors import InputError
from harness.config.schema import MultipleChoiceConfig
from harness.data.ragged import Int64, offsets_of
from harness.data.text_encoder import without_truncation
from harness.data.tokenization import Tokenization
from harness.evaluation.choice_formats import Question, read_questions
from harness.evaluation.evaluation_set import Advance, Chosen, Float64, LanguageModel, Measured, TokenSet, fitting
from harness.evaluation.scored_texts import ScoredTexts


@dataclass(frozen=True, eq=False)
class MultipleChoiceSet(TokenSet):
    """Questions with their choices.

    Measures accuracy, by the sum of the log-likelihoods of a choice's tokens given the question; accuracy_per_byte, by that sum divided by
    the choice's UTF-8 bytes (acc and acc_norm of EleutherAI's lm-evaluation-harness, which divides by characters); answer_bits_per_byte,
    bits of all right choices over their bytes. Of equal choices the first counts as chosen.
    """

    section = "multiple_choice"
    name: str
    tokens: NDArray[np.int64]
    """int64[tokens]: question and choice as token ids, one choice after the other, the choices of a question together."""
    lengths: Int64
    """int64[choices]: tokens of question and choice."""
    scored: Int64
    """int64[choices]: how many tokens at the end of each belong to the choice."""
    choice_bytes: Int64
    """int64[choices]: UTF-8 bytes of the choice."""
    first_choice: Int64
    """int64[questions + 1]: the choices of question i are first_choice[i] : first_choice[i + 1]."""
    answers: Int64
    """int64[questions]: the right choice of each question, counted over all choices."""
    truncated: int
    """Choices whose question lost its beginning, both together being longer than data.context_length."""
    left_out: int
    """Questions that are not asked, since one of their choices alone is longer than that."""
    ids: tuple[str, ...] = ()
    """Of each question, a hash of it."""

    @property
    def questions(self) -> int:
        return len(self.answers)

    @property
    def documents(self) -> int:
        return self.questions

    def only(self, chosen: Chosen, name: str) -> MultipleChoiceSet:
        counts = np.diff(self.first_choice)
        of_choices = np.repeat(chosen, counts)
        first_choice = offsets_of(counts[chosen])
        return replace(
            self,
            name=name,
            tokens=self.tokens[np.repeat(of_choices, self.lengths)],
            lengths=self.lengths[of_choices],
            scored=self.scored[of_choices],
            choice_bytes=self.choice_bytes[of_choices],
            first_choice=first_choice,
            answers=first_choice[:-1] + (self.answers - self.first_choice[:-1])[chosen],
            ids=tuple(compress(self.ids, chosen)),
        )

    @property
    def limit(self) -> tuple[str, str]:
        return f"{self.key}.max_questions", f"{self.questions:,} questions"

    @property
    def texts(self) -> ScoredTexts:
        """Question and choice, of which the choice is scored."""
        return ScoredTexts.of_ends(self.tokens, self.lengths, self.scored)

    def summary(self) -> dict[str, int]:
        return {
            "questions": self.questions,
            "choices": len(self.lengths),
            "tokens": len(self.tokens),
            "truncated": self.truncated,
            "left_out": self.left_out,
        }

    def measure(self, model: LanguageModel, advance: Advance) -> Measured:
        log_likelihood = self.texts.log_likelihoods(model, advance)
        sizes = self.choice_bytes[self.answers].astype(float)
        bits = -math.fsum(log_likelihood[self.answers]) / math.log(2)
        right, right_per_byte = self._right(log_likelihood), self._right(log_likelihood / self.choice_bytes)
        one = np.ones(self.questions)
        return Measured(
            {
                "accuracy": float(np.mean(right)),
                "accuracy_per_byte": float(np.mean(right_per_byte)),
                "answer_bits_per_byte": bits / float(sizes.sum()),
            },
            documents={
                "accuracy": self._by_question(right, one),
                "accuracy_per_byte": self._by_question(right_per_byte, one),
                "answer_bits_per_byte": self._by_question(-log_likelihood[self.answers] / math.log(2), sizes),
            },
        )

    def _right(self, score: Float64) -> Chosen:
        """bool[questions]: whether the right choice has the highest score."""
        first = self.first_choice
        chosen = [start + int(np.argmax(score[start:stop])) for start, stop in zip(first[:-1].tolist(), first[1:].tolist(), strict=True)]
        right: Chosen = np.array(chosen) == self.answers
        return right

    def _by_question(self, sums: Float64 | Chosen, sizes: Float64) -> dict[str, tuple[float, float]]:
        return {name: (float(one), float(size)) for name, one, size in zip(self.ids, sums, sizes, strict=False)}

    @cached_property
    def fingerprint(self) -> str:
        return self._digest(self.tokens, self.lengths, self.scored, self.choice_bytes, self.first_choice, self.answers)


def build_multiple_choice(name: str, config: MultipleChoiceConfig, tokens: Tokenization) -> MultipleChoiceSet:
    """The set of data.multiple_choice.<name>.

    Raises InputError for what cannot be read, and where no question fits into the context.
    """
    data, key = tokens.config, f"data.multiple_choice.{name}"
    questions = list(read_questions(tokens.files(key, config).files, config.format, key=key))
    questions = sorted(questions, key=_hash)[: config.max_questions]
    encoded = _encode(questions, config.delimiter, without_truncation(tokens.tokenizer.backend_tokenizer))
    sizes = [sum(len(ids) for ids, _ in choices) for choices in encoded]
    kept = fitting(sizes, data.max_evaluation_tokens, f"the first question of {key}")
    return multiple_choice_set(name, questions[:kept], encoded[:kept], data.context_length)


def multiple_choice_set(
    name: str, questions: Sequence[Question], encoded: Sequence[Sequence[tuple[list[int], int]]], context_length: int
) -> MultipleChoiceSet:
    """The set of these questions. Args: encoded: for each choice of each question its token ids, and how many belong to the choice.

    A sequence of more than context_length predictions loses its beginning; a question with a choice that is longer alone is left out.
    Raises InputError when none is left.
    """
    has_room = [all(0 < count <= min(len(ids) - 1, context_length) for ids, count in choices) for choices in encoded]
    if not any(has_room):
        raise InputError(
            f"data.multiple_choice.{name}: none of its {len(questions)} questions has only choices of 1 to data.context_length="
            f"{context_length} tokens, after at least one token of the question"
        )
    kept = list(compress(zip(questions, encoded, strict=True), has_room))
    sequences, scored, sizes, truncated = [], [], [], 0
    for question, choices in kept:
        for choice, (ids, count) in zip(question.choices, choices, strict=True):
            truncated += len(ids) > context_length + 1
            sequences.append(ids[-context_length - 1 :])
            scored.append(count)
            sizes.append(len(choice.encode()))
    first_choice = offsets_of(np.array([len(question.choices) for question, _ in kept], dtype=np.int64))
    return MultipleChoiceSet(
        name=name,
        tokens=np.concatenate([np.array(ids, dtype=np.int64) for ids in sequences]),
        lengths=np.array([len(ids) for ids in sequences], dtype=np.int64),
        scored=np.array(scored, dtype=np.int64),
        choice_bytes=np.array(sizes, dtype=np.int64),
        first_choice=first_choice,
        answers=first_choice[:-1] + np.array([question.answer for question, _ in kept], dtype=np.int64),
        truncated=truncated,
        left_out=len(questions) - len(kept),
        ids=tuple(_hash(question).hex() for question, _ in kept),
    )


def _hash(question: Question) -> bytes:
    return hashlib.blake2b("\0".join((question.text, *question.choices)).encode(), digest_size=8).digest()


def _encode(questions: Sequence[Question], delimiter: str | None, tokenizer: Tokenizer) -> list[list[tuple[list[int], int]]]:
    """For each choice of each question: the token ids of both, and how many of them belong to the choice.

    Question, delimiter and choice are tokenized as one text, as they would be in training. A token belongs to the choice if it holds any
    character of it, or of the white space before it: tokens of words begin with their space, so that the end of the question is a token's
    end as well. Where it is not, the token that spans it is scored, for every choice the one that the text has there.
    """
    texts, ends = [], []
    for question in questions:
        before = question.text + (question.delimiter if delimiter is None else delimiter)
        texts += [before + choice for choice in question.choices]
        ends += [len(before.rstrip())] * len(question.choices)
    encoded: list[tuple[list[int], int]] = []
    for encoding, end in zip(tokenizer.encode_batch(texts, add_special_tokens=True), ends, strict=True):
        ids, offsets = encoding.ids, encoding.offsets
        # What a tokenizer adds at the end of a text, such as its end-of-text token, is no part of the choice.
        while ids and offsets[len(ids) - 1][1] <= end:
            ids.pop()
        encoded.append((ids, sum(stop > end for _, stop in offsets[: len(ids)])))
    rest: Iterator[tuple[list[int], int]] = iter(encoded)
    return [[next(rest) for _ in question.choices] for question in questions]
