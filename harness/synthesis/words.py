"""Texts as words, and runs of words as numbers: what near duplicates and contamination are found by."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

WITHOUT_SPACES = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
"""Scripts whose words have no space between them: there each character is a word."""
WORD = regex.compile(rf"[{WITHOUT_SPACES}]|[\w--[{WITHOUT_SPACES}]]+", regex.V1)
MIXED = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
"""Of splitmix64's last steps (Steele, Lea, Flood 2014), by which all bits of a number come to depend on all others."""
ROOT = 0x9E3779B97F4A7C15
MODULUS = 1 << 64

Hashes = NDArray[np.uint64]


def words_of(text: str) -> list[str]:
    """The words of a text in lower case (Unicode's NFKC, case folded), without punctuation."""
    found: list[str] = WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return found


def run_hashes(words: Sequence[str], length: int) -> Hashes:
    """A hash of 64 bits for every `length` words that follow each other, in order: uint64 [max(0, words - length + 1)]. It depends on
    the words alone, on no seed of the process."""
    runs = len(words) - length + 1
    if runs < 1:
        return np.empty(0, dtype=np.uint64)
    hashes = np.fromiter(map(_word_hash, words), dtype=np.uint64, count=len(words))
    total: Any = np.zeros(runs, dtype=np.uint64)
    factor = 1
    for place in range(length):
        factor = factor * ROOT % MODULUS
        total += hashes[place : place + runs] * np.uint64(factor)
    return _mixed(total)


@lru_cache(maxsize=1 << 20)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest(), "little")


def _mixed(numbers: Hashes) -> Hashes:
    numbers = (numbers ^ (numbers >> np.uint64(30))) * MIXED[0]
    numbers = (numbers ^ (numbers >> np.uint64(27))) * MIXED[1]
    return numbers ^ (numbers >> np.uint64(31))
