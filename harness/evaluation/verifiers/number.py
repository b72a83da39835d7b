"""The same number. In a text: the one after the last ####, else in the last \\boxed{}, else the last one.

    1,234.50   commas between groups of three digits are left out; elsewhere a comma ends a number
    -3, −3     a minus counts as a sign unless a digit, letter or bracket stands before it (10-3 holds 10 and 3)
    3/4        a fraction of whole numbers; 0.75 equals it
    2.5e-3     powers of ten
    $18, 18%   units and signs of currency around it count for nothing

Numbers are compared exactly, as fractions: 3.33 is not 10/3.
"""

from __future__ import annotations

import re
from collections import deque
from fractions import Fraction
from typing import Any

from harness.data.row import described
from harness.evaluation.verifiers.verifier import BadReferenceError

MARK = "####"
BOXED = "\\boxed{"
MOST_DIGITS = 100
"""Of a number that is compared; a longer one is no answer to anything."""
NUMBER = re.compile(
    r"(?P<sign>(?<![\w)\]}])[-−])?"
    r"(?P<value>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|(?<![0-9])\.[0-9]+)"
    r"(?P<power>[eE][-+]?[0-9]{1,2}(?![0-9]))?(?:/(?P<below>[0-9]+)(?![0-9/]))?"
)


def number_in(text: str) -> Fraction | None:
    """The number that a text ends in, see above; None where there is none."""
    for mark in (MARK, BOXED):
        if mark in text:
            after = text.rpartition(mark)[2].partition("\n" if mark == MARK else "}")[0]
            found = NUMBER.search(after)
            return None if found is None else _value(found)
    last = deque(NUMBER.finditer(text), maxlen=1)
    return _value(last[0]) if last else None


def _value(found: re.Match[str]) -> Fraction | None:
    digits = found["value"].replace(",", "") + (found["power"] or "")
    below = found["below"]
    if len(digits) > MOST_DIGITS or len(below or "") > MOST_DIGITS:
        return None
    value = Fraction(digits)
    if below is not None and "." not in digits and not found["power"] and int(below):
        value /= int(below)
    return -value if found["sign"] else value


def number_of(value: Any) -> Fraction:
    """A reference's number: a JSON number, or as of a text (the rationales of gsm8k end in #### 18). Raises BadReferenceError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise BadReferenceError(f"{described(value)}; valid: a number, or a text that ends in one")
    found = number_in(value)
    if found is None:
        raise BadReferenceError(f"{value[-60:]!r}, without a number; valid: a number, or a text that ends in one, such as '#### 18'")
    return found


def is_same_number(text: str, reference: Fraction) -> bool:
    return number_in(text) == reference
