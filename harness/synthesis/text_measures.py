"""What texts of any language can be told apart by, without a model: shares and means by counting.

Most are rules by which corpora were cleaned; the bounds that their authors chose are said with each. All are 0 of a text that has nothing
to count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from harness.evaluation.text_statistics import repetition

REPEATED_WORDS = 4
"""Words in the n-grams of `repetition`."""
BULLETS = ("-", "*", "•", "‣", "◦", "–")
ELLIPSES = ("...", "…")
CLOSING = "\"'”’»)]*_`"
"""May stand behind the mark that ends a sentence."""
ENDS = tuple(".!?…。！？؟।:;")
SYMBOLS = re.compile(r"#|\.\.\.|…")


def characters(text: str) -> float:
    """How many Unicode characters (code points) it has."""
    return len(text)


def words(text: str) -> float:
    """How many words it has: what stands between white space."""
    return len(text.split())


def repeated(text: str) -> float:
    """Share of the 4-grams of words that stood there before: 1 - different / all."""
    return repetition(text.split(), REPEATED_WORDS)


def repeated_lines(text: str) -> float:
    """Share of the lines that stood there before (Gopher, arXiv 2112.11446: at most 0.3)."""
    lines = _lines(text)
    return 1 - len(set(lines)) / len(lines) if lines else 0.0


def word_length(text: str) -> float:
    """Mean characters of a word (Gopher: 3 to 10)."""
    return _mean([len(word) for word in text.split()])


def letters(text: str) -> float:
    """Share of letters among the characters that are no white space."""
    return _share("".join(text.split()), str.isalpha)


def words_with_letters(text: str) -> float:
    """Share of words with at least one letter (Gopher: at least 0.8)."""
    return _share(text.split(), lambda word: any(map(str.isalpha, word)))


def symbols(text: str) -> float:
    """Signs # and ellipses for each word (Gopher: at most 0.1)."""
    count = len(text.split())
    return len(SYMBOLS.findall(text)) / count if count else 0.0


def ended_lines(text: str) -> float:
    """Share of lines that end in a mark of punctuation (C4, arXiv 1910.10683, keeps such lines alone)."""
    return _share(_lines(text), lambda line: line.rstrip(CLOSING).endswith(ENDS))


def bullet_lines(text: str) -> float:
    """Share of lines that begin with a bullet (Gopher: at most 0.9)."""
    return _share(_lines(text), lambda line: line.startswith(BULLETS))


def ellipsis_lines(text: str) -> float:
    """Share of lines that end in an ellipsis (Gopher: at most 0.3)."""
    return _share(_lines(text), lambda line: line.endswith(ELLIPSES))


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if not line.isspace() and line]


def _share(parts: Sequence[str], holds: Callable[[str], bool]) -> float:
    return _mean([holds(part) for part in parts])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


MEASURES: dict[str, Callable[[str], float]] = {
    "characters": characters,
    "words": words,
    "repetition": repeated,
    "repeated_lines": repeated_lines,
    "word_length": word_length,
    "letters": letters,
    "words_with_letters": words_with_letters,
    "symbols": symbols,
    "ended_lines": ended_lines,
    "bullet_lines": bullet_lines,
    "ellipsis_lines": ellipsis_lines,
}
"""By their key in `filters`, which has bounds for each."""
