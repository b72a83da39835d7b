"""A note in the cache that a configuration's data are ready, so that a launch need not look at them again.

    <cache>/prepared/<configuration>.json     its files as they were, and the entries of the cache that were made of them

Looking takes seconds, nearly all of them the imports of transformers and torch, even where every text is in the cache. A note holds for
one configuration and the versions that it was made with, and for as long as no file that it names has changed, come or gone. Where a
tokenizer or a model comes from a hub, what a teacher or a reference says or directions to steer along are
asked for, or tasks of lm_eval, which read files that no key names, none is written.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from glob import glob, has_magic
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness
from harness.config.documents import DamagedError
from harness.config.locations import in_home
from harness.config.private import PATH_KEY, paths_in
from harness.config.remote_code import TRUST_VARIABLE
from harness.config.schema import needs_reference
from harness.config.validate import to_plain
from harness.data import cache_entry
from harness.runs.cache import default_cache_dir
from harness.runs.files import read_json, write_json

if TYPE_CHECKING:
    from harness.config.schema import Config

log = logging.getLogger("harness")

LIBRARIES = ("transformers", "tokenizers", "numpy")
SETTLED_SECONDS = 1.0
"""A file written just now may be written again within one tick of the file system's clock, and look the same."""

Files = dict[str, list[int]]
"""Size, time of the last change in nanoseconds and inode of each file, by its path."""


def files_of(config: Config) -> Files | None:
    """The files that a configuration names, as they are now; None where it names what is no file here, or one that was written just now."""
    files: Files = {}
    for key, named in paths_in(to_plain(config)):
        if not PATH_KEY.fullmatch(key):
            continue
        found = list(_below(named))
        if not found:
            return None
        for path in found:
            status = path.stat()
            if time.time() - status.st_mtime < SETTLED_SECONDS:
                return None
            files[str(path.resolve())] = [status.st_size, status.st_mtime_ns, status.st_ino]
    return files


def _below(path: str) -> Iterable[Path]:
    root = in_home(path)
    if root.is_file():
        return [root]
    if root.is_dir():
        return [file for file in root.rglob("*") if file.is_file()]
    matches = glob(str(root), recursive=True) if has_magic(path) else []  # noqa: PTH207 - as sources are looked for
    return [Path(match) for match in matches if Path(match).is_file()]


def is_prepared(config: Config, environment: Mapping[str, str]) -> bool:
    """Whether the data of a configuration were prepared before, and nothing has changed since or is damaged.

    environment: of the preparation.
    """
    return _standing_note(config, environment) is not None


def noted_summary(config: Config, environment: Mapping[str, str]) -> dict[str, Any] | None:
    """What was noted of the data, where they are prepared and nothing has changed since; else None. What was said of them is said again."""
    note = _standing_note(config, environment)
    if note is None:
        return None
    for line in note["said"]:
        log.info("%s", line)
    summary: dict[str, Any] | None = note.get("summary")
    return summary


@contextmanager
def what_is_said() -> Iterator[list[str]]:
    """The lines that the harness logs of data meanwhile: what is left out, cut or repeated."""
    keeper = _Keeper()
    log.addHandler(keeper)
    try:
        yield keeper.lines
    finally:
        log.removeHandler(keeper)


class _Keeper(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != cache_entry.__name__:  # that an entry was made anew is true once
            self.lines.append(record.getMessage())


def _standing_note(config: Config, environment: Mapping[str, str]) -> dict[str, Any] | None:
    try:
        note: dict[str, Any] | None = read_json(_note(config, environment))
    except DamagedError:
        return None  # it is written anew
    if note is None or note.get("files") != files_of(config) or not all(isinstance(note.get(part), list) for part in ("entries", "said")):
        return None
    tokens = default_cache_dir(config.data.cache_dir, environment) / "tokens"
    return note if all(cache_entry.is_whole(tokens / entry) for entry in note["entries"]) else None


def note_prepared(config: Config, files: Files | None, entries: Iterable[str], summary: dict[str, Any], said: list[str]) -> None:
    """Note that the data of a configuration are ready.

    files: as they were before they were read; entries: of the cache, that hold their tokens; summary, said: of `summary_of`, and of
    `what_is_said` meanwhile.
    """
    of_models = config.objective.teacher_samples is not None or needs_reference(config.objective) or config.adapter.name == "steering"
    if files is None or of_models or config.data.lm_eval:
        return
    try:
        write_json(_note(config, os.environ), {"files": files, "entries": sorted(set(entries)), "summary": summary, "said": said})
    except OSError as error:  # it saves time alone, and a cache that is complete may be on a read-only disk
        log.info("%s: %s: the next command looks at the data again", error.filename, error.strerror)


def _note(config: Config, environment: Mapping[str, str]) -> Path:
    recipe: list[Any] = [to_plain(config), harness.__version__, *map(version, LIBRARIES), environment.get(TRUST_VARIABLE)]
    name = hashlib.sha256(json.dumps(recipe, sort_keys=True, default=str).encode()).hexdigest()
    return default_cache_dir(config.data.cache_dir, environment) / "prepared" / f"{name}.json"
