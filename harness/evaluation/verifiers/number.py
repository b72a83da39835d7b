"""The same number. In a text: the one after the last ####, else in the last \\boxed{}, else the last one.

    1,234.50   commas between groups of three digits are left out; elsewhere a comma ends a number
    -3, −3     a minus counts as a sign unless a digit, letter or bracket stands before it (10-3 holds 10 and 3)
    3/4        a fraction of whole numbers, also \\frac{3}{4} (\\dfrac, \\tfrac); 0.75 equals it
    2.5e-3     powers of ten
    $18, 18%   units and signs of currency around it count for nothing

A \\boxed{} that holds several numbers, such as 2^3, has none; nor has a \\frac of anything else. Numbers are compared exactly, as
fractions: 3.33 is not 10/3.
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
UNREAD = "\0"
"""Stands for a \\frac that is no number."""
NUMBER_OR_UNREAD = re.compile(f"{NUMBER.pattern}|{UNREAD}")
FRACTION = re.compile(r"\\[dt]?frac(?![a-zA-Z])")
WHOLE = re.compile(r"\s*([-−]?[0-9]+)\s*")


def number_in(text: str) -> Fraction | None:
    """The number that a text ends in, see above; None where there is none."""
    if MARK in text:
        found = NUMBER_OR_UNREAD.search(_with_plain_fractions(text.rpartition(MARK)[2].partition("\n")[0]))
        return None if found is None else _value(found)
    if BOXED in text:
        box = text.rpartition(BOXED)[2]
        end = _end_of_group(box)
        numbers = [] if end is None else list(NUMBER_OR_UNREAD.finditer(_with_plain_fractions(box[:end])))
        return _value(numbers[0]) if len(numbers) == 1 else None
    last = deque(NUMBER_OR_UNREAD.finditer(_with_plain_fractions(text)), maxlen=1)
    return _value(last[0]) if last else None


def _end_of_group(text: str, start: int = 0) -> int | None:
    """Where the brace stands that closes the one just before `start`; None where none does."""
    depth = 1
    for brace in re.compile(r"[{}]").finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.start()
    return None


def _with_plain_fractions(text: str) -> str:
    """The text with 3/4 for \\frac{3}{4}, UNREAD for other fractions, and LaTeX's comma {,} as one."""
    text, parts, at = text.replace(UNREAD, " ").replace("{,}", ","), list[str](), 0
    while found := FRACTION.search(text, at):
        before = text[at : found.start()]
        above, middle = _argument(text, found.end())
        below, end = _argument(text, middle)
        over, under = WHOLE.fullmatch(above), WHOLE.fullmatch(below)
        is_read = over and under and under[1].isdecimal() and int(under[1][:MOST_DIGITS])
        is_mixed = before.rstrip()[-1:].isdecimal()  # 2\\frac{1}{2}
        is_negative = before.endswith(("-", "−"))
        if over is None or under is None or not is_read or is_mixed or (is_negative and not over[1].isdecimal()):
            parts += [before, UNREAD]
        else:
            parts += [before, "" if is_negative else " ", f"{over[1]}/{under[1]} "]
        at = end
    return "".join([*parts, text[at:]])


def _argument(text: str, at: int) -> tuple[str, int]:
    """What a LaTeX command is given there, a group or one character, and where it ends: with the text, if the group is not closed."""
    while text[at : at + 1].isspace():
        at += 1
    if text[at : at + 1] != "{":
        return text[at : at + 1], min(at + 1, len(text))
    end = _end_of_group(text, at + 1)
    return ("", len(text)) if end is None else (text[at + 1 : end], end + 1)


def _value(found: re.Match[str]) -> Fraction | None:
    if found[0] == UNREAD:
        return None
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
