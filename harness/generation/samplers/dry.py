"""DRY ("don't repeat yourself", text-generation-webui's pull request 5677; here as in llama.cpp): a token that would go on with a
repetition becomes the less likely, the longer the repetition is already."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

Breakers = Mapping[int, Sequence[tuple[int, ...]]]
"""What ends a repetition: a token, and what must follow it; () after one that holds the whole string."""
MAX_TAIL_TOKENS = 20
LARGEST_LOG = 88.7
"""Of float32: a longer repetition counts no more."""


def dry(
    logits_BV: Tensor, histories: Sequence[Sequence[int]], *, multiplier: float, base: float, allowed_length: int, breakers: Breakers
) -> Tensor:
    """Logits of tokens that would prolong a repetition of n >= allowed_length tokens, lowered by multiplier * base^(n - allowed_length)."""
    most = math.floor(LARGEST_LOG / math.log(base)) if base > 1 else 0
    lowered = logits_BV.clone()
    for row, history in enumerate(histories):
        for token, length in repetitions(history, allowed_length, breakers, longest=allowed_length + most).items():
            lowered[row, token] -= multiplier * base ** (length - allowed_length)
    return lowered


def repetitions(history: Sequence[int], allowed_length: int, breakers: Breakers, *, longest: int) -> dict[int, int]:
    """The tokens that would go on with a repetition, each with how many tokens of it stand at the end of the history: from
    allowed_length to `longest`, but none across a breaker. Breakers themselves may always come."""
    limit = min(_since_breaker(history, breakers), len(history) - 1, longest)
    if limit < allowed_length:
        return {}
    read = np.asarray(history, dtype=np.int64)
    found: dict[int, int] = {}
    # Where the end of the history stood before: the index after the part that has been compared, and which tokens came then.
    ends = np.arange(1, len(read))
    for length in range(1, limit + 1):
        ends = ends[ends >= length]
        ends = ends[read[ends - length] == read[-length]]
        if not len(ends):
            break
        if length >= allowed_length:
            found |= dict.fromkeys(read[ends].tolist(), length)
    return {token: length for token, length in found.items() if () not in breakers.get(token, ())}


def _since_breaker(history: Sequence[int], breakers: Breakers) -> int:
    """How many tokens stand after the last breaker; all, where there is none."""
    for after in range(len(history) if breakers else 0):
        at = len(history) - 1 - after
        fitting = [len(tail) for tail in breakers.get(history[at], ()) if tuple(history[at + 1 : at + 1 + len(tail)]) == tail]
        if fitting:
            return after - max(fitting)
    return len(history)


def sequence_breakers(tokenizer: Any, strings: Sequence[str]) -> Breakers:
    """The breakers that these strings are: every token that holds one, or begins one that others end."""
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))], clean_up_tokenization_spaces=False)
    found: dict[int, list[tuple[int, ...]]] = {}
    for string in strings:
        tails: dict[str, tuple[int, ...]] = {"": ()}
        for token, text in enumerate(texts):
            for rest in _rests(text, string):
                if rest not in tails:
                    tails[rest] = tuple(tokenizer.encode(rest, add_special_tokens=False)[:MAX_TAIL_TOKENS])
                if tails[rest] not in found.setdefault(token, []):
                    found[token].append(tails[rest])
    return found


def _rests(text: str, string: str) -> list[str]:
    """What must follow a token's text for the string to stand there: [""] if the text holds it, [] if it holds no beginning of it."""
    if string in text:
        return [""]
    return [string[length:] for length in range(1, len(string)) if text.endswith(string[:length])]
