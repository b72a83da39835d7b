"""What can be said of texts by counting: how often several tries are right, how much a text repeats itself, how different texts are.

Pure functions. Texts are sequences of tokens (or of words: anything that can be compared), and all counts depend on how long and how many
they are: cut them before they are compared.
"""

from __future__ import annotations

import math
import zlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

Text = Sequence[Hashable]
BLEU_ORDER = 4
"""The longest n-grams of self-BLEU."""
BLEU_EPSILON = 0.1
"""Matches of an order that has none: Chen and Cherry's smoothing 1, as nltk's method1."""
ZLIB_LEVEL = 9


def pass_at(k: int, right: int, draws: int) -> float:
    """The chance that at least one of k draws is right, without bias: 1 - C(draws - right, k) / C(draws, k) (arXiv 2107.03374)."""
    return 1.0 - math.comb(draws - right, k) / math.comb(draws, k)


def all_at(k: int, right: int, draws: int) -> float:
    """The chance that all of k draws are right, without bias: C(right, k) / C(draws, k)."""
    return math.comb(right, k) / math.comb(draws, k)


def ngrams(text: Text, n: int) -> Iterable[tuple[Hashable, ...]]:
    """The n-grams of a text, in order."""
    return zip(*(text[start:] for start in range(n)), strict=False)


def distinct(texts: Sequence[Text], n: int) -> float:
    """Different n-grams of all texts over all their n-grams (distinct-n, arXiv 1510.03055); 0 where there is none."""
    counts = Counter(gram for text in texts for gram in ngrams(text, n))
    return len(counts) / counts.total() if counts else 0.0


def adjusted_distinct(texts: Sequence[Text], vocabulary: int) -> float:
    """Different tokens over those that as many independent, equally likely ones would have (EAD, arXiv 2202.13587), which does not fall
    with length as distinct-1 does; 0 where there is no token."""
    counts = Counter(token for text in texts for token in text)
    return len(counts) / (vocabulary * (1 - ((vocabulary - 1) / vocabulary) ** counts.total())) if counts else 0.0


def repetition(text: Text, n: int) -> float:
    """Share of a text's n-grams that it had before: 1 - different / all; 0 of a text shorter than n."""
    counts = Counter(ngrams(text, n))
    return 1 - len(counts) / counts.total() if counts else 0.0


def zlib_ratio(texts: Sequence[str]) -> float:
    """UTF-8 bytes of the texts, a line each, over those that zlib makes of them: the more they repeat, the higher. 0 of nothing."""
    content = "\n".join(texts).encode()
    return len(content) / len(zlib.compress(content, ZLIB_LEVEL)) if content else 0.0


def self_bleu(texts: Sequence[Text]) -> list[float]:
    """BLEU-4 of each text against all others (arXiv 1802.01886): 1 where another is the same, 0 of a text alone.

    As nltk's sentence_bleu with equal weights and its smoothing method1: every n-gram counts up to as often as one of the others has it.
    """
    if len(texts) < 2:
        return [0.0] * len(texts)
    counted = [[Counter(ngrams(text, n)) for text in texts] for n in range(1, BLEU_ORDER + 1)]
    clips = [_Most(of_order) for of_order in counted]
    lengths = sorted(map(len, texts))
    return [_bleu(index, len(text), counted, clips, lengths) for index, text in enumerate(texts)]


class _Most:
    """Of n-grams in several texts: the most that any text but one has."""

    def __init__(self, texts: Sequence[Counter[tuple[Hashable, ...]]]) -> None:
        self._two: dict[tuple[Hashable, ...], tuple[int, int, int]] = {}
        """By n-gram: the text that has most of it, how many it has, and how many the next one has."""
        for index, counts in enumerate(texts):
            for gram, count in counts.items():
                first, most, next_most = self._two.get(gram, (-1, 0, 0))
                self._two[gram] = (index, count, most) if count > most else (first, most, max(count, next_most))

    def but(self, index: int, gram: tuple[Hashable, ...]) -> int:
        first, most, next_most = self._two[gram]
        return next_most if first == index else most


def _bleu(
    index: int, length: int, counted: Sequence[Sequence[Counter[tuple[Hashable, ...]]]], clips: Sequence[_Most], lengths: list[int]
) -> float:
    logs = 0.0
    for order, (of_order, most) in enumerate(zip(counted, clips, strict=True)):
        mine = of_order[index]
        matches = sum(min(count, most.but(index, gram)) for gram, count in mine.items())
        if matches == 0 and order == 0:
            return 0.0
        logs += math.log((matches or BLEU_EPSILON) / max(1, mine.total())) / BLEU_ORDER
    closest = _closest(length, lengths)
    return math.exp(logs + min(0.0, 1 - closest / length))


def _closest(length: int, lengths: list[int]) -> int:
    """The length of another text that is closest to this one's, the shorter of two. lengths: of all texts, this one among them, sorted."""
    at = bisect_left(lengths, length)
    others = [*lengths[max(0, at - 1) : at], *lengths[at + 1 : at + 2]]
    return min(others, key=lambda other: (abs(other - length), other))
