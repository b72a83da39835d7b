"""How likely a local teacher finds what was written: the scores of steps with `nll`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.config.errors import InputError
from harness.config.schema import DataConfig
from harness.evaluation.scored_texts import ScoredTexts
from harness.synthesis.plan import Ask

if TYPE_CHECKING:
    from harness.evaluation.evaluation_set import LanguageModel


@dataclass(frozen=True, eq=False)
class ReadText:
    """A prompt and the text behind it, as tokens."""

    ids: np.ndarray[Any, np.dtype[np.int64]]
    """int64[n]"""
    is_scored: np.ndarray[Any, np.dtype[np.bool_]]
    """bool[n]: which of them are the text's; never the first, which nothing predicts."""
    error: str | None = None
    """Why it cannot be read."""

    def problem(self, longest_prompt: int | None) -> str | None:
        """Why its likelihood cannot be told. longest_prompt: tokens that leave room for one more in the model's context; None: any."""
        if self.error is not None:
            return self.error
        if not self.is_scored.any():
            return "no token of the text can be scored"
        if longest_prompt is not None and len(self.ids) > longest_prompt + 1:
            return f"prompt and text have {len(self.ids):,} tokens, more than the model's context of {longest_prompt + 1:,}"
        return None


def read_texts(asks: Sequence[Ask], data: DataConfig, tokenizer: Any, *, chat: bool) -> dict[str, ReadText]:
    """What a teacher reads of each ask, by its id. chat: whether the prompt is what a user says, and the text the assistant's turn."""
    if chat:
        return _turns(asks, data, tokenizer)
    from harness.data.text_encoder import TextEncoder

    encoder = TextEncoder(tokenizer, append_eos=False, split_special_tokens=data.split_special_tokens)
    read = encoder.encode_continuations([(ask.prompt, str(ask.answer)) for ask in asks])
    return {ask.id: ReadText(ids, _but_the_first(follows)) for ask, (ids, follows) in zip(asks, read, strict=True)}


def _turns(asks: Sequence[Ask], data: DataConfig, tokenizer: Any) -> dict[str, ReadText]:
    from harness.data.chat.conversation import Conversation, Message
    from harness.data.chat.encoder import WantedTurns, build_chat_encoder

    conversations = [Conversation((Message("user", ask.prompt), Message("assistant", str(ask.answer)))) for ask in asks]
    encoded = build_chat_encoder(data, tokenizer).encode_turns([WantedTurns(one, [1], "the text") for one in conversations])
    nothing = ReadText(np.empty(0, np.int64), np.empty(0, np.bool_))
    return {
        ask.id: ReadText(nothing.ids, nothing.is_scored, str(one))
        if isinstance(one, InputError)
        else ReadText(one.ids, _but_the_first(one.trained))
        for ask, one in zip(asks, encoded, strict=True)
    }


def _but_the_first(scored: np.ndarray[Any, np.dtype[np.bool_]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    found = scored.copy()
    found[:1] = False
    return found


def nats_per_token(texts: Sequence[ReadText], model: LanguageModel) -> list[float]:
    """Of each text, the mean of -log p of its tokens."""
    if not texts:
        return []
    lengths = np.array([len(text.ids) for text in texts], dtype=np.int64)
    scored = ScoredTexts(np.concatenate([text.ids for text in texts]), lengths, np.concatenate([text.is_scored for text in texts]))
    found = scored.log_likelihoods(model, lambda count: None)
    return [float(-nats / text.is_scored.sum()) for nats, text in zip(found, texts, strict=True)]
