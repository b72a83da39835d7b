"""Texts on disk while they are written: whole lines, so that a kill loses none that has ended."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from harness.config.documents import parse_json
from harness.config.errors import InputError
from harness.generation.rows import Draw, Generation
from harness.runs.files import at, read_json, replacing, write_json
from harness.runs.locks import hold

Place = tuple[str, int]
"""Id of a prompt, and draw."""


class PartFile:
    """OUT.part: a header that says what is written there, then a row a line, in the order in which rows end. `with` holds it; without rows
    it is not left behind. Beside OUT its header stays, as .OUT.header.json."""

    def __init__(self, out: Path, header: dict[str, Any], *, restart: bool) -> None:
        """Raises InputError where the file, or `out` (unless restart), holds something else than the header says, and where another process
        writes it."""
        self.path, self._out, self._header = out.with_name(f"{out.name}.part"), out, header
        self._header_path = out.with_name(f".{out.name}.header.json")
        if out.is_dir() or not out.parent.is_dir():
            raise InputError(f"--out {out}: {'a directory' if out.is_dir() else 'its directory does not exist'}; valid: a file to write")
        self._lock_path = out.with_name(f".{out.name}.lock")
        lock = hold(self._lock_path)
        if lock is None:
            raise InputError(f"--out {out}: another process writes it")
        self._lock = lock
        self.finished: dict[Place, dict[str, Any]] = {}
        """The rows that are there."""
        self.is_complete = out.exists() and not restart
        """Whether `out` holds all rows."""
        try:
            if restart:
                self.path.unlink(missing_ok=True)
            if self.is_complete:
                self._read_complete()
            else:
                self._begin(header)
        except BaseException:
            self.__exit__()
            raise

    def _read_complete(self) -> None:
        content = self._out.read_bytes()
        known = read_json(self._header_path) or {}
        if known.get("sha256") != hashlib.sha256(content).hexdigest():
            raise InputError(f"--out {self._out}: is there already; valid: another file, or --restart, which writes it anew")
        self._refuse_other(self._out, known["header"], "that command again, another --out, or --restart, which writes it anew")
        self.finished = {(row["id"], row["draw"]): row for row in map(parse_json, content.splitlines())}

    def _refuse_other(self, path: Path, known: dict[str, Any], valid: str) -> None:
        different = sorted(name for name in {*self._header, *known} if self._header.get(name) != known.get(name))
        if different:
            raise InputError(f"{path}: holds texts of another command, whose {', '.join(different)} was other than now; valid: {valid}")

    def _begin(self, header: dict[str, Any]) -> None:
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        lines = whole.splitlines()
        if lines:
            try:
                known = parse_json(lines[0])
                rows = [parse_json(line) for line in lines[1:]]
                self.finished = {(row["id"], row["draw"]): row for row in rows}
            except (ValueError, RecursionError, KeyError, TypeError) as error:
                raise InputError(f"{self.path}: damaged: {error}; --restart begins anew") from None
            # Where no row had ended there is nothing to keep.
            if self.finished:
                self._refuse_other(self.path, known, "that command again, another --out, or --restart, which begins anew")
        with at(self.path):
            self._stream = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            # A torn last line is of a row that had not ended.
            os.ftruncate(self._stream, len(whole) if self.finished else 0)
            if not self.finished:
                self._write(json.dumps(header))

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
        lines = [json.dumps(self.finished[row.prompt.id, row.draw], ensure_ascii=False, allow_nan=False) for row in rows]
        content = "".join(f"{line}\n" for line in lines).encode()
        # First, and with what it is of: beside another file it says nothing.
        write_json(self._header_path, {"sha256": hashlib.sha256(content).hexdigest(), "header": self._header})
        with replacing(self._out) as stream:
            stream.write(content)
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
