"""Resolve the path of a source to files, and read their documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path

from harness.config.errors import InputError, wrong_value
from harness.config.trust import is_trusted_file
from harness.data.rows import nothing_in
from harness.data.saved_dataset import saved_files
from harness.data.text_files import ENDINGS, Document, read_file

VALID_ENDINGS = ", ".join(ENDINGS)


def source_files(path: str, *, key: str, split: str | None = None) -> list[Path]:
    """The files that `path` means, sorted: a file, all supported files below a directory, or those that a glob (with **) matches.

    A directory to which Hugging Face datasets saved a data set means that data set's files, of several splits those of `split`; null: the
    only one. Hidden files and directories are left out. `key` is the configuration key of the source, e.g. data.sources.docs.
    Raises InputError when there is no such file or split, a split is asked of what has none, nothing matches, the ending of a file is
    not supported, or a file lies outside of the directory.
    """
    root = Path(path).expanduser()
    where = f"{key}.path"
    if root.is_dir() and (saved := saved_files(root, split, key=key)) is not None:
        _refuse_outside(saved, root, key=key)
        return saved
    if split is not None:
        raise wrong_value(f"{key}.split", split, f"{path} has no splits; only a directory with a saved DatasetDict has")
    if root.is_file():
        if not root.name.endswith(ENDINGS):
            raise wrong_value(where, path, f"unsupported kind of file; valid endings: {VALID_ENDINGS}")
        return [root]
    if root.is_dir():
        found = [file for file in root.rglob("*") if not _hidden(file.relative_to(root))]
    elif has_magic(path):
        # Not pathlib's: what its ** matches differs between versions of Python, and it finds hidden files.
        found = [Path(match) for match in glob(str(root), recursive=True)]  # noqa: PTH207
    else:
        raise wrong_value(where, path, "no such file or directory")
    files = sorted(file for file in found if file.is_file() and file.name.endswith(ENDINGS))
    if not files:
        others = next((file for file in sorted(found) if file.is_file()), None)
        seen = f" (there is {others}, for example)" if others else ""
        raise wrong_value(where, path, f"no file there ends in {VALID_ENDINGS}{seen}")
    _refuse_outside(files, root if root.is_dir() else _fixed_part(root), key=key)
    return files


def _refuse_outside(files: Sequence[Path], directory: Path, *, key: str) -> None:
    """Refuse files that a directory names by links or lists, but that lie elsewhere: a stranger's may mean any private file by them.

    Links into the hub's own blobs, beside its snapshots, are of the data set.
    """
    home = directory.resolve()
    inside = [home, *(parent.parent / "blobs" for parent in (home, *home.parents) if parent.name == "snapshots")]
    for file in files:
        real = file.resolve()
        if not any(real.is_relative_to(place) for place in inside) and not is_trusted_file(directory):
            raise InputError(
                f"{key}: {file} is {real}, which lies outside of {directory}; give the path of that file itself, or, if you trust whoever "
                f"made {directory}: harness --trust {directory} …"
            )


def _fixed_part(pattern: Path) -> Path:
    """The directory below which a glob looks."""
    return next(parent for parent in pattern.parents if not has_magic(str(parent)))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def read_documents(path: str, field: str, *, key: str) -> Iterator[str]:
    """The texts of all documents below `path`, in the order of the files; see `source_files` and `read_files`."""
    for document in read_files(source_files(path, key=key), field, key=key):
        yield document.text


def read_files(files: Sequence[Path], field: str, *, key: str) -> Iterator[Document]:
    """The documents of the files, in order, one in memory at a time; `position` counts the bytes of all files so far.

    Documents without any text are passed over. Raises InputError for content that cannot be read, and when no document has any text.
    """
    before, empty = 0, True
    for file in files:
        for text, position in read_file(file, field, key=key):
            if text and not text.isspace():
                yield Document(text, before + position)
                empty = False
        before += file.stat().st_size
    if empty:
        raise nothing_in(files, "document with any text", key=key)
