"""What tasks of lm_eval ask of a model, as token ids: divided as lm_eval itself divides text, so that its figures compare with others'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.config.errors import InputError
from harness.config.schema import SamplingConfig
from harness.config.validate import to_section
from harness.data.text_encoder import without_truncation
from harness.generation.rows import Limits, Prompt
from harness.generation.written_text import can_write

MOST_NEW_TOKENS = 256
"""lm_eval's own, where a task says nothing."""
LENGTH_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""What tasks call it; the first that is there counts."""
SAMPLED = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
"""What a task may say of sampling; anything else is refused."""


@dataclass(frozen=True)
class Scored:
    """A text of which the end is scored."""

    ids: tuple[int, ...]
    count: int
    """Tokens at its end that are scored."""
    truncated: bool = False
    """Whether its beginning did not fit into the context."""


@dataclass(frozen=True)
class Written:
    """A text that the model writes."""

    prompt: Prompt
    limits: Limits
    sampling: SamplingConfig
    draws: int
    truncated: bool = False


class RequestReader:
    """A tokenizer as it is used for requests."""

    def __init__(self, tokenizer: Any, context_length: int, *, max_new_tokens: int | None, is_chat: bool) -> None:
        """Args: max_new_tokens: in place of what tasks say; is_chat: whether a template has written all control tokens already."""
        self._tokenizer, self._context_length = tokenizer, context_length
        self._max_new_tokens, self._is_chat = max_new_tokens, is_chat
        self._backend = without_truncation(tokenizer.backend_tokenizer)
        self._writable: dict[str, bool] = {}
        first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        self._first: int | None = first
        """What stands before a text that has nothing before it."""

    def scored(self, context: str, continuation: str, where: str) -> Scored:
        """The continuation, given the context. Raises InputError for one that does not fit into the context of the model."""
        # White space at the end belongs to the word that follows, as it would in a whole text.
        stripped = context.rstrip()
        context, continuation = stripped, context[len(stripped) :] + continuation
        if context:
            whole, before = self._encode(context + continuation), self._encode(context)
            return self._fitting(whole, len(whole) - len(before), where)
        ids = self._encode(continuation, special=False)
        given = [] if ids and ids[0] == self._first else [self._beginning(where)]
        return self._fitting([*given, *ids], len(ids) - (not given), where)

    def rolling(self, text: str, where: str) -> list[Scored]:
        """A whole text, in windows of the context of which each token is scored once."""
        from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

        windows = get_rolling_token_windows(
            self._encode(text), prefix_token=self._beginning(where), max_seq_len=self._context_length, context_len=1
        )
        return [Scored((*before, *scored), len(scored)) for before, scored in map(make_disjoint_window, windows)]

    def written(self, context: str, asked: Mapping[str, Any], *, name: str, draws: int, where: str) -> Written:
        """A text after the context, until what the task asks for. Raises InputError for sampling that the harness lacks."""
        rest = dict(asked)
        lengths = [rest.pop(key) for key in LENGTH_NAMES if key in rest]
        most = self._max_new_tokens or int(next((one for one in lengths if one is not None), MOST_NEW_TOKENS))
        room = self._context_length - most
        if room < 1:
            raise InputError(
                f"{where}: {most} new tokens leave no room for its prompts in data.context_length={self._context_length}; "
                "valid: a longer context, or a smaller .max_new_tokens"
            )
        until = rest.pop("until", None) or []
        # Tasks name the end tokens of many models; what this one cannot write ends nothing.
        stop = [str(text) for text in ([until] if isinstance(until, str) else until) if text and self._can_write(str(text))]
        ids = self._encode(context) or [self._beginning(where)]
        prompt = Prompt(name, context, tuple(ids[-room:]))
        return Written(prompt, Limits(most, tuple(dict.fromkeys(stop))), _sampling(rest, where), draws, len(ids) > room)

    def _fitting(self, ids: list[int], count: int, where: str) -> Scored:
        if not 0 < count <= self._context_length:
            raise InputError(f"{where}: a text of {count} tokens is to be scored; valid: 1 to data.context_length={self._context_length}")
        # One token more than the context: the last is predicted, and never read.
        kept = ids[-self._context_length - 1 :]
        return Scored(tuple(kept), min(count, len(kept) - 1), len(kept) < len(ids))

    def _beginning(self, where: str) -> int:
        if self._first is None:
            raise InputError(f"{where}: a text with nothing before it, and the tokenizer has neither a first nor an end-of-text token")
        return self._first

    def _encode(self, text: str, *, special: bool = True) -> list[int]:
        bos = self._tokenizer.bos_token
        adds = special and not self._is_chat and not (bos and text.startswith(bos))
        encoding = self._backend.encode(text, add_special_tokens=adds)
        ids: list[int] = list(encoding.ids)
        # What a tokenizer adds at the end of a text would end what is only to begin.
        while ids and encoding.special_tokens_mask[len(ids) - 1] and encoding.offsets[len(ids) - 1][0] == encoding.offsets[len(ids) - 1][1]:
            ids.pop()
        return ids

    def _can_write(self, text: str) -> bool:
        if text not in self._writable:
            self._writable[text] = text in self._tokenizer.all_special_tokens or can_write(self._tokenizer, text)
        return self._writable[text]


def _sampling(asked: Mapping[str, Any], where: str) -> SamplingConfig:
    """How the next token is chosen: as the task says, greedy where it says nothing."""
    rest = {name: value for name, value in asked.items() if value is not None}
    samples = rest.pop("do_sample", None)
    unknown = [name for name in rest if name not in SAMPLED and not (name == "num_beams" and rest[name] == 1)]
    if unknown:
        valid = ", ".join((*LENGTH_NAMES, "until", "do_sample", *SAMPLED))
        raise InputError(f"{where}: generation_kwargs: {', '.join(unknown)}: not known here; valid: {valid}")
    given = {name: rest[name] for name in SAMPLED if name in rest}
    temperature = given.get("temperature", 1.0 if samples else 0.0)
    if samples is False or temperature == 0:
        penalty = {name: value for name, value in given.items() if name == "repetition_penalty"}
        given, temperature = {"name": "greedy", **penalty}, 0.0
    try:
        return to_section(SamplingConfig, {**given, "temperature": temperature})
    except InputError as error:
        raise InputError(f"{where}: generation_kwargs: {'; '.join(str(error).splitlines())}") from None
