"""The one way in for JSON, YAML and text that we or a stranger wrote: whole, of a bounded size, and of the type that it should have.

Whatever is wrong with a file ends in a `DamagedError`, which names it: that it is cut, empty, no UTF-8, too deep, a bomb of aliases, no
file at all, or holds what no document of ours does (NaN, integers of hundreds of digits, half a surrogate pair). What the system refuses
stays an OSError.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Hashable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml

from harness.config.errors import InputError

T = TypeVar("T")

MOST_BYTES = 64_000_000
"""Of a document that is read as a whole; sweeps with thousands of choices, and tokenizers, stay below."""
PART_BYTES = 65_536
MOST_DEEP = 100
MOST_NODES = 1_000_000
"""Of YAML once its aliases are followed."""
MOST_DIGITS = 40
"""Of an integer. transformers writes one of 31 digits for a tokenizer without a limit."""
_SUSPICIOUS = re.compile(rb"^ {200}|(?:[-?:] ){50}|[&*]\w", re.MULTILINE)
MOST_BRACKETS = 100
CUT = "it is empty, as a crash of the machine leaves it"


class DamagedError(InputError):
    """A file that cannot be what it should be. `problem` says what is wrong with it."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: damaged: {problem}. Restore it, or move it away.")
        self.path, self.problem = path, problem


def read_bytes(path: Path, *, most_bytes: int = MOST_BYTES) -> bytes:
    """All of a regular file. Raises DamagedError for anything else, and for a larger one; OSError."""
    # Without waiting: opening a pipe would wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise DamagedError(path, "it is no regular file")
        # By and by: to ask for all that it may have at once takes the memory for it, however small it is.
        content = bytearray()
        while len(content) <= most_bytes and (part := os.read(descriptor, PART_BYTES)):
            content += part
    except OSError as error:
        error.filename = str(path)  # which a read, unlike open, does not say
        raise
    finally:
        os.close(descriptor)
    if len(content) > most_bytes:
        raise DamagedError(path, f"it has more than {most_bytes:,} bytes")
    return bytes(content)


def read_text(path: Path, *, most_bytes: int = MOST_BYTES) -> str:
    """A UTF-8 file. Raises DamagedError and OSError."""
    try:
        return read_bytes(path, most_bytes=most_bytes).decode()
    except UnicodeDecodeError as error:
        raise DamagedError(path, f"it is no UTF-8: {error.reason} at byte {error.start:,}") from None


def read_json(path: Path) -> Any:
    """A JSON document. Raises DamagedError and OSError."""
    content = read_bytes(path)
    if not content.strip():
        raise DamagedError(path, CUT)
    try:
        return parse_json(content)
    except (ValueError, RecursionError) as error:
        raise DamagedError(path, f"it is no JSON: {_words(error)}") from None


def read_yaml(path: Path) -> Any:
    """A YAML document that the harness wrote. Raises DamagedError and OSError."""
    content = read_bytes(path)
    if not content.strip():
        raise DamagedError(path, CUT)
    try:
        refuse_yaml_bombs(content)
        # The C loader reads a frozen sweep in 2 ms instead of 20.
        return yaml.load(content, Loader=yaml.CSafeLoader)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise DamagedError(path, f"it is no YAML: {_words(error)}") from None


def as_mapping(document: Any, path: Path) -> dict[str, Any]:
    """The document, which must be a mapping. Raises DamagedError."""
    if not isinstance(document, dict):
        raise DamagedError(path, f"it holds {'nothing' if document is None else f'a {type(document).__name__}'} instead of a mapping")
    return document


def typed(section: type[T], document: Any, path: Path, *, strict: bool = False) -> T:
    """A dataclass from its document; keys that it does not know are left out. strict: "4" is no number, for who reads the document itself.

    Raises DamagedError, which names the first wrong keys.
    """
    from pydantic import ValidationError

    adapter = _adapter(section)  # type: ignore[arg-type]
    try:
        if strict:  # as JSON: a list is a tuple then, and a mapping a section, but nothing else is what it is not
            (found,) = adapter.validate_json(json.dumps([document], default=str, skipkeys=True), strict=True)
        else:
            (found,) = adapter.validate_python([document])
    except ValidationError as error:
        wrong = error.errors(include_url=False)[:3]
        problems = [f"{'.'.join(map(str, part['loc'][1:])) or 'the document'}: {part['msg']}" for part in wrong]
        raise DamagedError(path, "; ".join(problems)) from None
    return cast(T, found)


@cache
def _adapter(section: Hashable) -> Any:
    from pydantic import ConfigDict, TypeAdapter  # 50 ms: not for --help and completion

    # The word "nan" would be taken for a number. A list, since pydantic takes no settings beside a dataclass of its own.
    return TypeAdapter(list[section], config=ConfigDict(allow_inf_nan=False))  # type: ignore[valid-type]


def parse_json(content: bytes | str) -> Any:
    """JSON of finite numbers and whole text. Raises ValueError and RecursionError."""
    document = _DECODER.decode(content if isinstance(content, str) else content.decode())
    escaped = b"\\ud" if isinstance(content, bytes) else "\\ud"
    if escaped in content.lower():  # type: ignore[operator]
        # Half of a surrogate pair is no text, and could not be written anywhere: raises UnicodeEncodeError, a ValueError.
        json.dumps(document, ensure_ascii=False).encode()
    return document


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits} is no finite number")
    return value


def _constant(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON's")


_DECODER = json.JSONDecoder(parse_int=_integer, parse_float=_number, parse_constant=_constant)


def refuse_yaml_bombs(content: bytes) -> None:
    """Raise ValueError for YAML that would exhaust stack or memory, before it is loaded: too deep, or of aliases of aliases."""
    # Nearly nothing is suspicious, and events take ten times as long as loading does.
    if content.count(b"[") + content.count(b"{") < MOST_BRACKETS and not _SUSPICIOUS.search(content):
        return
    sizes: dict[str, int] = {}
    for nodes in _documents(yaml.parse(content, Loader=yaml.CSafeLoader), sizes):
        if nodes > MOST_NODES:
            raise ValueError(f"its aliases make more than {MOST_NODES:,} values")


def _documents(events: Iterator[Any], sizes: dict[str, int]) -> Iterator[int]:
    """How many nodes have been met, aliases followed, after every event. sizes: nodes below every anchor, which is filled."""
    open_nodes: list[tuple[str | None, int]] = []
    nodes = 0
    for event in events:
        match event:
            case yaml.events.AliasEvent(anchor=anchor):
                if any(anchor == one for one, _ in open_nodes):
                    raise ValueError(f"*{anchor} holds itself")
                nodes += sizes.get(anchor or "", 1)
            case yaml.events.CollectionStartEvent(anchor=anchor):
                open_nodes.append((anchor, nodes))
                nodes += 1
                if len(open_nodes) > MOST_DEEP:
                    raise ValueError(f"it is nested more than {MOST_DEEP} deep")
            case yaml.events.CollectionEndEvent():
                anchor, before = open_nodes.pop()
                if anchor is not None:
                    sizes[anchor] = nodes - before
            case yaml.events.ScalarEvent():
                nodes += 1
            case _:
                continue
        yield nodes


def _words(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return " ".join(str(error).split())
