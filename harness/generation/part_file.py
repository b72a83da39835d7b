"""Texts on disk while they are written: whole lines, so that a kill loses none that has ended."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import StrictInt

from harness.config.documents import DamagedError, as_mapping, parse_json, read_bytes, typed
from harness.config.errors import InputError
from harness.config.writable import check_output
from harness.generation.rows import Draw, Finish, Generation
from harness.runs.files import MOST_LINES_BYTES, at, writing_output
from harness.runs.locks import hold

Place = tuple[str, int]
"""Id of a prompt, and draw."""


@dataclass(frozen=True)
class _Row:
    """As `document_of` makes it."""

    id: str
    prompt: str
    draw: StrictInt
    text: str
    tokens: StrictInt
    token_ids: list[StrictInt]
    finish: Finish


class PartFile:
    """OUT.part: a header that says what is written there, then a row a line, in the order in which rows end. `with` holds it; without rows
    it is not left behind."""

    def __init__(self, out: Path, header: dict[str, Any], *, restart: bool) -> None:
        """Raises InputError where the file holds something else than the header says, where `out` is there already (unless restart), and
        where another process writes it."""
        self.path, self._out = out.with_name(f"{out.name}.part"), out
        check_output("--out", out)
        if out.exists() and not restart:
            raise InputError(f"--out {out}: is there already; valid: another file, or --restart, which writes it anew")
        self._lock_path = out.with_name(f".{out.name}.lock")
        lock = hold(self._lock_path)
        if lock is None:
            raise InputError(f"--out {out}: another process writes it")
        self._lock = lock
        self.finished: dict[Place, dict[str, Any]] = {}
        """The rows that are there."""
        try:
            if restart:
                self.path.unlink(missing_ok=True)
            self._begin(header)
        except BaseException:
            self.__exit__()
            raise

    def _begin(self, header: dict[str, Any]) -> None:
        try:
            content = read_bytes(self.path, most_bytes=MOST_LINES_BYTES)
        except FileNotFoundError:
            content = b""
        whole = content[: content.rfind(b"\n") + 1]
        lines = whole.splitlines()
        if lines:
            known, *rows = (self._parsed(number, line) for number, line in enumerate(lines, start=1))
            self.finished = {(row["id"], row["draw"]): row for row in rows}
            # Where no row had ended there is nothing to keep.
            different = sorted(name for name in {*header, *known} if header.get(name) != known.get(name))
            if different and self.finished:
                raise InputError(
                    f"{self.path}: holds texts of another command, whose {', '.join(different)} was other than now; "
                    "valid: that command again, another --out, or --restart, which begins anew"
                )
        with at(self.path):
            # Not through a link: what that leads to is no file of ours.
            self._stream = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            # A torn last line is of a row that had not ended.
            os.ftruncate(self._stream, len(whole) if self.finished else 0)
            if not self.finished:
                self._write(json.dumps(header))

    def _parsed(self, number: int, line: bytes) -> dict[str, Any]:
        """The header, in line 1, or a row."""
        try:
            document = as_mapping(parse_json(line), self.path)
            if number > 1:
                typed(_Row, document, self.path)
        except (ValueError, RecursionError, DamagedError) as error:
            problem = error.problem if isinstance(error, DamagedError) else error
            raise InputError(f"{self.path}, line {number}: damaged: {problem}; --restart begins anew") from None
        return document

    def append(self, row: Draw, text: Generation) -> None:
        """A row that has ended. Raises OSError where the disk is full; what was there stays."""
        document = document_of(row, text)
        self._write(json.dumps(document, allow_nan=False))
        self.finished[text.id, text.draw] = document

    def _write(self, line: str) -> None:
        content = line.encode() + b"\n"
        with at(self.path):
            while content:
                content = content[os.write(self._stream, content) :]

    def finish(self, rows: Sequence[Draw]) -> None:
        """Write the rows, in this order, to their place, in one step."""
        with writing_output(self._out) as stream:
            for row in rows:
                stream.write(json.dumps(self.finished[row.prompt.id, row.draw], ensure_ascii=False, allow_nan=False).encode() + b"\n")
        self.path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if hasattr(self, "_stream"):
            os.close(self._stream)
            if not self.finished:
                self.path.unlink(missing_ok=True)
        # Before its release: else it may be the file that another process holds by now.
        self._lock_path.unlink(missing_ok=True)
        self._lock.release()


def document_of(row: Draw, text: Generation) -> dict[str, Any]:
    """A row as it is written: {id, prompt, draw, text, tokens, token_ids, finish}."""
    written = asdict(text)
    return {
        "id": text.id,
        "prompt": row.prompt.text,
        "draw": text.draw,
        "text": text.text,
        "tokens": text.tokens,
        "token_ids": list(written["token_ids"]),
        "finish": text.finish,
    }
