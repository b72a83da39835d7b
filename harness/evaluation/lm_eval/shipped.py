"""The task files that come with lm_eval, by the names in them: more than ten thousand, of which only those asked for are parsed."""

from __future__ import annotations

import hashlib
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from harness.config.documents import DamagedError, typed
from harness.config.errors import InputError, did_you_mean, wrong_value
from harness.runs.file_cache import FileCache
from harness.runs.files import read_json, write_json

log = logging.getLogger("harness")

EXTRA = "needs lm_eval, which is not installed: pip install 'harness[lm_eval]'"
ENTRY = re.compile(r"""^(['"]?)(class|task|group|tag|include)\1[ \t]*:[ \t]*(.*(?:\n[ \t]*-[ \t].*)*)""", re.MULTILINE)
COMMENT = re.compile(r"(^|\s)#.*")
BULLET = re.compile(r"^[ \t]*-[ \t]+", re.MULTILINE)
Head = dict[str, list[str]]
WORD = re.compile(r"[^\s'\",\[\]]+")


@dataclass(frozen=True)
class Shipped:
    """What can be asked for by name."""

    files: dict[str, str]
    """Of tasks and groups, below `shipped_directory`."""
    tags: dict[str, list[str]]
    """The tasks that have a tag, sorted: asked for by one name, and nothing more."""

    def paths(self, name: str, directory: Path) -> list[Path]:
        """The files of a task, of a group, or of all tasks with a tag; [] where there is none."""
        return [directory / self.files[one] for one in ([name] if name in self.files else self.tags.get(name, ()))]


@cache
def shipped_directory() -> Path | None:
    """Where lm_eval has its own task files; None where it is not installed."""
    spec = find_spec("lm_eval")
    return None if spec is None or not spec.submodule_search_locations else Path(spec.submodule_search_locations[0]) / "tasks"


def is_shipped(path: Path) -> bool:
    """Whether a file came with lm_eval."""
    directory = shipped_directory()
    return directory is not None and path.resolve().is_relative_to(directory.resolve())


def shipped_files(name: str, key: str, cache_dir: Path) -> list[Path]:
    """The files of a task, of a group, or of all tasks with a tag. Raises InputError, with `key`, where there is none.

    cache_dir: the cache, where it is noted what there is.
    """
    directory = shipped_directory()
    if directory is None:
        raise InputError(f"{key}={name}: {EXTRA}")
    note = _note(directory, cache_dir)
    noted = _NOTES.read(str(note))
    paths = noted.paths(name, directory) if noted else []
    if paths and all(path.is_file() for path in paths):
        return paths
    shipped = find_shipped(directory)
    if shipped != noted:
        try:
            write_json(note, asdict(shipped))
        except OSError as error:  # it saves time alone
            log.info("%s: %s: the next command looks for the tasks of lm_eval again", error.filename, error.strerror)
    paths = shipped.paths(name, directory)
    if not paths:
        hint = did_you_mean(name, [*shipped.files, *shipped.tags])
        raise wrong_value(key, name, f"no task, group or tag of lm_eval.{hint} Valid: their names (lm_eval ls tasks), or a .yaml file")
    return paths


def _note(directory: Path, cache_dir: Path) -> Path:
    which = f"{directory}\0{version('lm_eval')}\0{directory.stat().st_mtime_ns}"
    return cache_dir / "lm_eval" / f"{hashlib.sha256(which.encode()).hexdigest()[:32]}.json"


def _read_note(path: Path) -> Shipped | None:
    try:
        document = read_json(path)
        return None if document is None else typed(Shipped, document, path)
    except DamagedError:
        return None  # it is written anew


_NOTES = FileCache(_read_note)


def find_shipped(directory: Path) -> Shipped:
    """As lm_eval finds them: of files with one name the first counts. It takes seconds."""
    files: dict[str, str] = {}
    tags: defaultdict[str, list[str]] = defaultdict(list)
    head_of = cache(_head)
    for path in sorted(directory.rglob("*.yaml"), key=lambda path: path.as_posix()):
        head = head_of(path)
        is_group = "group" in head and "class" not in head
        names = head.get("group" if is_group else "task", [])
        if len(names) != 1 or names[0] in files:
            continue
        files[names[0]] = path.relative_to(directory).as_posix()
        for tag in () if is_group else _tags(path, head_of):
            tags[tag].append(names[0])
    return Shipped(files, {tag: sorted(tasks) for tag, tasks in tags.items() if tag not in files})


def _head(path: Path) -> Head:
    """The entries of a file that say what it is."""
    return {key: list(_words(value)) for _, key, value in ENTRY.findall(path.read_text("utf-8", errors="replace"))}


def _tags(path: Path, head_of: Callable[[Path], Head]) -> list[str]:
    """Its own, else those of the last of the files that it includes."""
    head = head_of(path)
    if "tag" in head:
        return head["tag"]
    found = [_tags(path.parent / one, head_of) for one in head.get("include", []) if (path.parent / one).is_file()]
    return next((tags for tags in reversed(found) if tags), [])


def _words(value: str) -> Iterator[str]:
    return map(str, WORD.findall(BULLET.sub(" ", COMMENT.sub("", value))))
