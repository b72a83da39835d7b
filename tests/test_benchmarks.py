"""The scripts under benchmarks/ are run by hand: that what they import is still where they look for it is seen here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))


def _imported(script: Path) -> Iterator[tuple[str, str]]:
    """Module and name of what a script takes from the repository, inside of functions too."""
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and (ROOT / node.module.split(".")[0]).is_dir():
            yield from ((node.module, alias.name) for alias in node.names)


def _offers(module: str, name: str) -> bool:
    """Whether a module has the name, or a file of it, or imports it for itself; told from the source, since some import torch."""
    path = ROOT.joinpath(*module.split("."))
    if path.is_dir():
        if (path / name).is_dir() or (path / f"{name}.py").exists():
            return True
        path = path / "__init__"
    source = path.with_suffix(".py")
    return source.exists() and any(name in _bound(node) for node in ast.parse(source.read_text()).body)


def _bound(node: ast.stmt) -> set[str]:
    match node:
        case ast.FunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.ImportFrom() | ast.Import():
            return {alias.asname or alias.name for alias in node.names}
        case ast.Assign() | ast.AnnAssign():
            return {found.id for found in ast.walk(node) if isinstance(found, ast.Name) and isinstance(found.ctx, ast.Store)}
        case _:
            return set()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_what_a_benchmark_imports_exists(script: Path) -> None:
    assert [f"{module}.{name}" for module, name in _imported(script) if not _offers(module, name)] == []
