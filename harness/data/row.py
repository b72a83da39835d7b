"""A row of a file, and what becomes of those that cannot be used."""

from __future__ import annotations

from typing import Any, NamedTuple

from harness.config.errors import InputError

UTF8_MARK = b"\xef\xbb\xbf"
NAMED = 3
"""Rows that cannot be used and are named in messages."""


class Row(NamedTuple):
    """A row, its place (for messages), and how many bytes of its file were read up to its end."""

    values: dict[str, Any]
    where: str
    position: int
    unread: tuple[str, ...] = ()
    """Columns of its file that were not asked for."""

    @property
    def fields(self) -> list[str]:
        """All fields of the row, for messages."""
        return [*self.values, *self.unread]


class BadRows:
    """Rows that cannot be used: the first one is refused, or all are left out and counted (data.malformed)."""

    def __init__(self, *, skip: bool = False, max_share: float = 0.0, remedy: str = "") -> None:
        """remedy: what a refusal says besides, where its reader can do something about it."""
        self.skips, self._max_share, self._remedy = skip, max_share, remedy
        self.count = 0
        self.first: list[str] = []
        """What is wrong with the first few."""

    @property
    def recipe(self) -> list[Any]:
        """What decides which rows are used, where not all are."""
        return ["malformed rows left out", self._max_share] if self.skips else []

    def add(self, problem: InputError) -> None:
        """Note that a row cannot be used; raises the problem where such rows are refused."""
        if not self.skips:
            raise InputError(f"{problem}{self._remedy}") from problem
        self.count += 1
        if self.count <= NAMED:
            self.first.append(str(problem))

    def check(self, used: int, *, key: str) -> None:
        """Raise InputError where too large a share was left out, besides the `used` rows."""
        if self.count > self._max_share * (used + self.count):
            raise InputError(
                f"{key}: {self.count:,} of {used + self.count:,} rows cannot be used, more than "
                f"data.max_malformed_share={self._max_share:g}; first: {self.first[0]}"
            )


def decoded(content: bytes, where: str) -> str:
    """Bytes as text, without a byte order mark."""
    try:
        return content.removeprefix(UTF8_MARK).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 (byte {error.start} is 0x{content[error.start]:02x}); valid: UTF-8 text") from error


def kind(value: Any) -> str:
    """The JSON name of a value's type."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def described(value: Any) -> str:
    """The type of a value with its article: null, a string, an array."""
    name = kind(value)
    return name if value is None else f"an {name}" if name[0] in "ao" else f"a {name}"
