"""Text that is on every machine with Python: the documentation and the source of its standard library.

English and code, two domains that differ enough for a model to forget one while it learns the other; for examples and tests that must not
download anything.
"""

from __future__ import annotations

import ast
import json
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

from harness.runs.files import replacing

SKIPPED_DIRECTORIES = {
    *("test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"),
    # A hundred tables that differ in a few lines: a held-out one would leak through the others.
    "encodings",
    # The topics again, as one long string literal: English text among the code.
    "pydoc_data",
}
FEWEST_CHARACTERS = 200
"""Shorter documents are left out."""

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def write_corpus(directory: Path) -> None:
    """Write english.jsonl and python.jsonl, each row {"name", "text"}, the same for the same version of Python.

    english: the topics of Python's help, and the docstrings of the standard library, one document a module.
    python: the source of the standard library without its docstrings, one document a module.
    """
    english = [(f"help/{topic}", text) for topic, text in sorted(topics.items())]
    python = []
    for name, source in _modules(Path(sysconfig.get_path("stdlib"))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in old modules
            try:
                tree = ast.parse(source)
            except (SyntaxError, ValueError):
                continue
        documented = [node for node in _in_order(tree) if ast.get_docstring(node)]
        english.append((f"docstrings/{name}", "\n\n".join(ast.get_docstring(node) or "" for node in documented)))
        python.append((name, _without_docstrings(source, documented)))
    _write(directory / "english.jsonl", english)
    _write(directory / "python.jsonl", python)


def _modules(root: Path) -> Iterator[tuple[str, str]]:
    """(path below the root, source) of every module, sorted; those that are not UTF-8 are left out."""
    for file in sorted(root.rglob("*.py")):
        path = file.relative_to(root)
        if SKIPPED_DIRECTORIES.isdisjoint(path.parts):
            try:
                yield path.as_posix(), file.read_bytes().decode()
            except UnicodeDecodeError:
                continue


def _in_order(node: ast.AST) -> Iterator[Documented]:
    """The module and all classes and functions in it, as they stand in the source. Expressions, most of a tree, hold none."""
    if isinstance(node, Documented):
        yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield from _in_order(child)


def _without_docstrings(source: str, documented: list[Documented]) -> str:
    """The source without the docstrings of these nodes (in their order); all else, comments and layout included, stays as it is."""
    lines = source.encode().splitlines(keepends=True)  # ast counts columns in UTF-8 bytes
    kept: list[bytes] = []
    line = 0  # up to here, lines are in `kept`, or gone
    for node in documented:
        docstring = node.body[0]
        assert docstring.end_lineno is not None
        first, last = docstring.lineno - 1, docstring.end_lineno - 1
        before, after = lines[first][: docstring.col_offset], lines[last][docstring.end_col_offset :]
        kept += lines[line:first]
        line = last + 1
        if before.strip() or after.strip() or (len(node.body) == 1 and not isinstance(node, ast.Module)):
            # It shares its line, or a body of nothing would be left: something must stand in its place.
            kept.append(before + b"pass" + after)
    return b"".join(kept + lines[line:]).decode()


def _write(path: Path, documents: list[tuple[str, str]]) -> None:
    with replacing(path) as stream:
        for name, text in documents:
            if len(text) >= FEWEST_CHARACTERS:
                stream.write(json.dumps({"name": name, "text": text}).encode() + b"\n")
