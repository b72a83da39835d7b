"""Answers to token ids, and to which of them are trained."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

from harness.config.errors import InputError
from harness.data.chat.encoder import ChatEncoder, EncodedText, WantedTurns
from harness.data.preference.formats import LabelledDocument, PairDocument
from harness.data.preference.labelled import LabelledAnswer
from harness.data.preference.pair import Answer, whole
from harness.data.row import BadRows
from harness.data.text_encoder import EncodedBatch, TextEncoder

AnswerDocument = PairDocument | LabelledDocument
VERSION = 2
"""Raise when pairs become other tokens or masks than before, or others are dropped."""
Dropped = Literal["equal", "empty", "tied"]
"""Why a pair says nothing: its answers are the same; one is empty; their scores are (or lie closer than data.min_score_gap)."""


class AnswerEncoder(ABC):
    """A tokenizer as it is used for answers: each becomes a document, after its prompt; a pair becomes two, the chosen answer first. The
    answer's tokens are trained, stop token included."""

    def __init__(self, min_score_gap: float) -> None:
        self._min_score_gap = min_score_gap

    @property
    def fingerprint(self) -> str:
        """Hex digest of everything that decides which ids and which mask a pair becomes, and which pairs are dropped."""
        return hashlib.sha256(json.dumps([VERSION, self._min_score_gap, self._tokens_fingerprint()]).encode()).hexdigest()

    @abstractmethod
    def _tokens_fingerprint(self) -> str: ...

    @abstractmethod
    def dtype(self) -> DTypeLike:
        """The smallest unsigned type that holds every id: uint16 or uint32."""

    def encode(self, documents: Sequence[AnswerDocument], dtype: DTypeLike, bad: BadRows) -> EncodedBatch:
        """All pairs, or answers with labels, but those that say nothing, which are counted. Raises InputError, naming the place, for one
        that cannot be trained on; bad: what becomes of such, instead."""
        dropped: Counter[str] = Counter()
        kept = []
        for document in documents:
            reason = self._useless(document)
            if reason is None:
                kept.append(document)
            else:
                dropped[reason] += 1
        answers: list[EncodedText] = []
        identities: list[str] = []
        labels: list[bool] | None = [] if any(isinstance(document.content, LabelledAnswer) for document in documents) else None
        found = iter(self.encoded([(document, answer) for document in kept for answer in document.content.answers]))
        for document in kept:
            sides = [next(found) for _ in document.content.answers]
            problem = next((side for side in sides if isinstance(side, InputError)), None)
            if problem is not None:
                bad.add(problem)
                continue
            texts = [side for side in sides if isinstance(side, EncodedText)]
            if not all(text.trained[1:].any() for text in texts):
                dropped["empty"] += 1
            elif len(texts) == 2 and np.array_equal(texts[0].ids, texts[1].ids):
                dropped["equal"] += 1
            else:
                answers += texts
                identities += [document.content.identity] * len(texts)
                if labels is not None and isinstance(document.content, LabelledAnswer):
                    labels.append(document.content.label)
        return EncodedBatch(
            ids=np.concatenate([np.empty(0, dtype), *(answer.ids.astype(dtype) for answer in answers)]),
            lengths=np.array([len(answer.ids) for answer in answers], dtype=np.int64),
            texts=identities,
            trained=np.concatenate([np.empty(0, np.bool_), *(answer.trained for answer in answers)]),
            trained_bytes=[answer.trained_bytes for answer in answers],
            dropped=dropped,
            labels=labels,
        )

    def _useless(self, document: AnswerDocument) -> Dropped | None:
        pair = document.content
        if not all(map(_says_something, pair.answers)):
            return "empty"
        if isinstance(pair, LabelledAnswer):
            return None
        if pair.chosen == pair.rejected:
            return "equal"
        if pair.gap is not None and (pair.gap <= 0 or pair.gap < self._min_score_gap):
            return "tied"
        return None

    @abstractmethod
    def encoded(self, answers: Sequence[tuple[AnswerDocument, Answer | str]]) -> list[EncodedText | InputError]:
        """Each answer of a document, after its prompt, or what is wrong with it."""


class ChatAnswers(AnswerEncoder):
    """Answers as turns of a conversation, by a chat template."""

    def __init__(self, encoder: ChatEncoder, *, min_score_gap: float = 0.0) -> None:
        super().__init__(min_score_gap)
        self._encoder = encoder

    def _tokens_fingerprint(self) -> str:
        return self._encoder.fingerprint

    def dtype(self) -> DTypeLike:
        return self._encoder.dtype()

    def encoded(self, answers: Sequence[tuple[AnswerDocument, Answer | str]]) -> list[EncodedText | InputError]:
        return self._encoder.encode_turns([_turns(document, answer) for document, answer in answers])


class TextAnswers(AnswerEncoder):
    """Answers as texts that go on from their prompt."""

    def __init__(self, encoder: TextEncoder, *, min_score_gap: float = 0.0) -> None:
        super().__init__(min_score_gap)
        self._encoder = encoder

    def _tokens_fingerprint(self) -> str:
        return f"text {self._encoder.fingerprint}"

    def dtype(self) -> DTypeLike:
        return self._encoder.dtype()

    def encoded(self, answers: Sequence[tuple[AnswerDocument, Answer | str]]) -> list[EncodedText | InputError]:
        texts = []
        for document, answer in answers:
            prompt = document.content.prompt
            assert isinstance(prompt, str)
            assert isinstance(answer, str)
            texts.append((prompt, answer))
        found = self._encoder.encode_continuations(texts)
        return [EncodedText(ids, mask, len(answer.encode())) for (ids, mask), (_, answer) in zip(found, texts, strict=True)]


def _turns(document: AnswerDocument, answer: Answer | str) -> WantedTurns:
    """The conversation, and the assistant's turns in it that are the answer."""
    prompt = document.content.prompt
    assert not isinstance(prompt, str)
    assert not isinstance(answer, str)
    conversation = whole(prompt, answer)
    return WantedTurns(conversation, [turn for turn in conversation.assistant_turns if turn >= len(prompt.messages)], document.where)


def _says_something(answer: Answer | str) -> bool:
    if isinstance(answer, str):
        return bool(answer.strip())
    return any(message.content.strip() or (message.reasoning or "").strip() or message.tool_calls for message in answer)
