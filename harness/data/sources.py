"""Resolve the path of a source to files, and read their documents."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path

from harness.config.errors import InputError, did_you_mean, wrong_value
from harness.config.locations import in_home
from harness.config.schema import each
from harness.config.trust import leads_outside, outside_text
from harness.data.file_splits import split_of
from harness.data.remote import local_path
from harness.data.row import BadRows
from harness.data.rows import VALID_ENDINGS, holds_rows, is_readable, nothing_in
from harness.data.saved_dataset import saved_files
from harness.data.text_files import Document, read_file

ABOUT_DATA = re.compile(
    r"(readme|licen[cs]e|notice|copying|authors|citation|changelog|contributing|(dataset|data)_?card)\b.*|requirements.txt", re.I
)
"""Texts beside rows that are about them."""
METADATA = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""What Hugging Face datasets writes beside rows."""


@dataclass(frozen=True)
class SourceFiles:
    """The files that a path means."""

    files: list[Path]
    left_out: list[Path] = field(default_factory=list)
    """Files of a directory that are not read."""

    def left_out_by_kind(self) -> str:
        """E.g. "3 .bin, 1 README.md"; "" where nothing is left out."""
        kinds = Counter(file.name if is_readable(file) else file.suffix or file.name for file in self.left_out)
        return ", ".join(f"{count} {name}" for name, count in kinds.most_common(6)) + (", …" if len(kinds) > 6 else "")


def find_source(path: str, *, key: str, split: str | None = None, bare: bool = False) -> SourceFiles:
    """The files that `path` means, sorted: a file, all supported files below a directory, or those that a glob (with **) matches.

    A directory to which Hugging Face datasets saved a data set means that data set's files. Of one that has rows, a README, a licence and
    other texts about them are left out; and where the names of its files tell several splits apart, as on the hub, all but `split`. Hidden
    files and directories are left out, links are followed. `key` is the configuration key of the source, e.g. data.sources.docs;
    bare: the paths are its own value, so that it has no .path and no .split.
    Raises InputError when there is no such file or split, a split is asked of what has none, nothing matches, the ending of a file is
    not supported, or a file is elsewhere (see `_refuse_outside`).
    """
    root = in_home(path)
    where = key if bare else f"{key}.path"
    if root.is_dir():
        saved = saved_files(root, split, key=key, bare=bare)
        found = SourceFiles(saved) if saved is not None else _of_directory(root, path, split, key, where)
        _refuse_outside(found.files, root, key=key, linked=saved is None)
        return found
    if split is not None:
        raise wrong_value(f"{key}.split", split, f"{path} has no splits; only a directory can have them")
    if root.is_file():
        if not is_readable(root):
            raise wrong_value(where, path, f"unsupported kind of file; valid endings: {VALID_ENDINGS}")
        return SourceFiles([root])
    if not has_magic(path):
        raise wrong_value(where, path, "no such file or directory")
    # Not pathlib's: what its ** matches differs between versions of Python, and it finds hidden files.
    matches = sorted(match for name in glob(str(root), recursive=True) if (match := Path(name)).is_file())  # noqa: PTH207
    files = _readable([match for match in matches if match.name not in METADATA], path, where)
    _refuse_outside(files, _fixed_part(root), key=key, linked=True)
    return SourceFiles(files)


def source_files(path: str, *, key: str, split: str | None = None) -> list[Path]:
    """The files of `find_source`."""
    return find_source(path, key=key, split=split).files


def find_sources(
    paths: str | list[str], *, key: str, split: str | None = None, subset: str | None = None, cache_dir: Path, bare: bool = False
) -> SourceFiles:
    """The files of one or several paths, in the order of the paths, each once; what is elsewhere is fetched where the cache lacks it.

    Raises InputError as `find_source` and `local_path` do.
    """
    local = (local_path(path, subset, key=key, cache_dir=cache_dir, bare=bare) for path in each(paths))
    found = [find_source(path, key=key, split=split, bare=bare) for path in local]
    files: dict[str, Path] = {}
    for file in (file for one in found for file in one.files):
        files.setdefault(_place(file), file)
    left_out = {_place(file): file for one in found for file in one.left_out}
    return SourceFiles(list(files.values()), [file for place, file in left_out.items() if place not in files])


def _place(file: Path) -> str:
    """The same of the same file, however it is spelt; links stay themselves."""
    return os.path.normpath(file.absolute())


def _of_directory(root: Path, path: str, split: str | None, key: str, where: str) -> SourceFiles:
    found = sorted(_below(root))
    files = _readable([file for file in found if file.name not in METADATA], path, where)
    if any(holds_rows(file) for file in files):
        files = [file for file in files if holds_rows(file) or not ABOUT_DATA.fullmatch(file.name)]
        files = _of_split(files, root, path, split, key, where)
    elif split is not None:
        raise wrong_value(f"{key}.split", split, f"{path} has no splits; it holds plain texts")
    return SourceFiles(files, sorted({*found} - {*files}))


def _of_split(files: list[Path], root: Path, path: str, split: str | None, key: str, where: str) -> list[Path]:
    splits = {file: split_of(file.relative_to(root)) if holds_rows(file) else None for file in files}
    names = sorted({name for name in splits.values() if name is not None})
    if split is None and len(names) < 2:
        return files
    counts = Counter(splits.values())
    valid = ", ".join(f"{name} ({counts[name]} files)" if counts[name] > 1 else name for name in names)
    if split is None:
        choose = "name the files of one" if where == key else f"choose one with {key}.split"
        raise wrong_value(where, path, f"it has the splits {valid}; {choose}, or all with a glob ({path}/**/*)")
    if not names:
        raise wrong_value(f"{key}.split", split, f"{path} has no splits")
    if split not in names:
        raise wrong_value(f"{key}.split", split, f"no such split in {path}; valid: {valid}.{did_you_mean(split, names)}")
    return [file for file in files if splits[file] == split]


def _readable(found: Sequence[Path], path: str, where: str) -> list[Path]:
    files = [file for file in found if is_readable(file)]
    if not files:
        seen = f" (there is {found[0]}, for example)" if found else ""
        raise wrong_value(where, path, f"no file there ends in {VALID_ENDINGS}{seen}")
    return files


def _below(root: Path) -> Iterator[Path]:
    """All files below a directory but hidden ones. Links to directories are followed, each directory once."""
    seen = set()
    for directory, directories, names in os.walk(root, followlinks=True):
        real = os.path.realpath(directory)
        if real in seen:
            directories.clear()
            continue
        seen.add(real)
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        yield from (file for name in names if not name.startswith(".") and (file := Path(directory, name)).is_file())


def _refuse_outside(files: Sequence[Path], directory: Path, *, key: str, linked: bool) -> None:
    """Raise InputError for files that a directory names by links or lists, but that lie elsewhere; linked: see `leads_outside`."""
    for file in files:
        if leads_outside(file, directory, linked=linked):
            raise InputError(f"{key}: {outside_text(file, directory)}")


def _fixed_part(pattern: Path) -> Path:
    """The directory below which a glob looks."""
    return next(parent for parent in pattern.parents if not has_magic(str(parent)))


def read_documents(path: str, field: str, *, key: str) -> Iterator[str]:
    """The texts of all documents below `path`, in the order of the files; see `source_files` and `read_files`."""
    for document in read_files(source_files(path, key=key), field, key=key):
        yield document.text


def read_files(files: Sequence[Path], field: str, *, key: str, bad: BadRows | None = None) -> Iterator[Document]:
    """The documents of the files, in order, one in memory at a time; `position` counts the bytes of all files so far.

    Documents without any text are passed over. Raises InputError for content that cannot be read, and when no document has any text; bad:
    what becomes of rows that cannot be used, instead.
    """
    before, used = 0, 0
    bad = bad or BadRows()
    for file in files:
        for text, position in read_file(file, field, key=key, bad=bad):
            if text and not text.isspace():
                yield Document(text, before + position)
                used += 1
        before += file.stat().st_size
    if not used and not bad.count:
        raise nothing_in(files, "document with any text", key=key)
