"""Pairs of answers to token ids, and to which of them are trained."""

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
from harness.data.preference.formats import PairDocument
from harness.data.preference.pair import Answer, Pair, TextPair
from harness.data.row import BadRows
from harness.data.text_encoder import EncodedBatch, TextEncoder

VERSION = 1
"""Raise when pairs become other tokens or masks than before, or others are dropped."""
Dropped = Literal["equal", "empty", "tied"]
"""Why a pair says nothing: its answers are the same; one is empty; their scores are (or lie closer than data.min_score_gap)."""


class PairEncoder(ABC):
    """A tokenizer as it is used for pairs: each becomes two documents, the chosen answer after its prompt and the rejected one. Their
    answers' tokens are trained, stop token included."""

    def __init__(self, min_score_gap: float) -> None:
        self._min_score_gap = min_score_gap

    def fingerprint(self) -> str:
        """Hex digest of everything that decides which ids and which mask a pair becomes, and which pairs are dropped."""
        return hashlib.sha256(json.dumps([VERSION, self._min_score_gap, self._tokens_fingerprint()]).encode()).hexdigest()

    @abstractmethod
    def _tokens_fingerprint(self) -> str: ...

    @abstractmethod
    def dtype(self) -> DTypeLike:
        """The smallest unsigned type that holds every id: uint16 or uint32."""

    def encode(self, documents: Sequence[PairDocument], dtype: DTypeLike, bad: BadRows) -> EncodedBatch:
        """All pairs but those that say nothing, which are counted. Raises InputError, naming the place, for one that cannot be trained on;
        bad: what becomes of such, instead."""
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
        for document, sides in zip(kept, self.sides(kept), strict=True):
            problem = next((side for side in sides if isinstance(side, InputError)), None)
            if problem is not None:
                bad.add(problem)
                continue
            chosen, rejected = (side for side in sides if isinstance(side, EncodedText))
            if not (chosen.trained[1:].any() and rejected.trained[1:].any()):
                dropped["empty"] += 1
            elif np.array_equal(chosen.ids, rejected.ids):
                dropped["equal"] += 1
            else:
                answers += [chosen, rejected]
                identities += [document.pair.identity] * 2
        return EncodedBatch(
            ids=np.concatenate([np.empty(0, dtype), *(answer.ids.astype(dtype) for answer in answers)]),
            lengths=np.array([len(answer.ids) for answer in answers], dtype=np.int64),
            texts=identities,
            trained=np.concatenate([np.empty(0, np.bool_), *(answer.trained for answer in answers)]),
            trained_bytes=[answer.trained_bytes for answer in answers],
            dropped=dropped,
        )

    def _useless(self, document: PairDocument) -> Dropped | None:
        pair = document.pair
        if pair.chosen == pair.rejected:
            return "equal"
        if not (_says_something(pair.chosen) and _says_something(pair.rejected)):
            return "empty"
        if pair.gap is not None and (pair.gap <= 0 or pair.gap < self._min_score_gap):
            return "tied"
        return None

    @abstractmethod
    def sides(self, documents: Sequence[PairDocument]) -> list[tuple[EncodedText | InputError, EncodedText | InputError]]:
        """Chosen and rejected answer of each pair, or what is wrong with them."""


class ChatPairs(PairEncoder):
    """Answers as turns of a conversation, by a chat template."""

    def __init__(self, encoder: ChatEncoder, *, min_score_gap: float = 0.0) -> None:
        super().__init__(min_score_gap)
        self._encoder = encoder

    def _tokens_fingerprint(self) -> str:
        return self._encoder.fingerprint()

    def dtype(self) -> DTypeLike:
        return self._encoder.dtype()

    def sides(self, documents: Sequence[PairDocument]) -> list[tuple[EncodedText | InputError, EncodedText | InputError]]:
        found = iter(self._encoder.encode_turns([turns for document in documents for turns in _turns(document)]))
        return [(next(found), next(found)) for _ in documents]


class TextPairs(PairEncoder):
    """Answers as texts that go on from their prompt."""

    def __init__(self, encoder: TextEncoder, *, min_score_gap: float = 0.0) -> None:
        super().__init__(min_score_gap)
        self._encoder = encoder

    def _tokens_fingerprint(self) -> str:
        return f"text {self._encoder.fingerprint()}"

    def dtype(self) -> DTypeLike:
        return self._encoder.dtype()

    def sides(self, documents: Sequence[PairDocument]) -> list[tuple[EncodedText | InputError, EncodedText | InputError]]:
        texts = []
        for pair, _, _ in documents:
            assert isinstance(pair, TextPair)
            texts += [(pair.prompt, pair.chosen), (pair.prompt, pair.rejected)]
        found = self._encoder.encode_continuations(texts)
        answers = [EncodedText(ids, mask, len(answer.encode())) for (ids, mask), (_, answer) in zip(found, texts, strict=True)]
        return list(zip(answers[0::2], answers[1::2], strict=True))


def _turns(document: PairDocument) -> list[WantedTurns]:
    """The two conversations, and the assistant's turns in each that are its answer."""
    pair = document.pair
    assert isinstance(pair, Pair)
    first, wanted = len(pair.prompt.messages), []
    for answer in (pair.chosen, pair.rejected):
        conversation = pair.whole(answer)
        wanted.append(WantedTurns(conversation, [turn for turn in conversation.assistant_turns if turn >= first], document.where))
    return wanted


def _says_something(answer: Answer | str) -> bool:
    if isinstance(answer, str):
        return bool(answer.strip())
    return any(message.content.strip() or (message.reasoning or "").strip() or message.tool_calls for message in answer)
