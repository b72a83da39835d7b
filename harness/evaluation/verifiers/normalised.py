"""The same words: both texts in lower case, without punctuation and English articles, white space as one space (as SQuAD compares)."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from harness.evaluation.verifiers.exact import text_of
from harness.evaluation.verifiers.verifier import BadReferenceError

ARTICLES = re.compile(r"\b(a|an|the)\b")
ASCII_SYMBOLS = frozenset("$+<=>^`|~")
"""What string.punctuation has besides characters of the Unicode category P."""


def normalised(text: str) -> str:
    """In this order: Unicode's compatible form NFKC, lower case (case folding), punctuation taken out ("don't" becomes "dont", "$5" 5),
    the words a, an and the taken out, white space at the ends taken out and elsewhere one space."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(one for one in folded if one not in ASCII_SYMBOLS and not unicodedata.category(one).startswith("P"))
    return " ".join(ARTICLES.sub(" ", kept).split())


def words_of(value: Any) -> str:
    """A reference in its normalised form. Raises BadReferenceError where nothing is left of it."""
    text = text_of(value)
    words = normalised(text)
    if not words:
        raise BadReferenceError(f"{text!r}, of which nothing is left without punctuation and articles; valid: a text with other words")
    return words


def has_same_words(text: str, reference: str) -> bool:
    return normalised(text) == reference


def contains_words(text: str, reference: str) -> bool:
    """Whether the words stand together somewhere in the text, as whole words."""
    return f" {reference} " in f" {normalised(text)} "
