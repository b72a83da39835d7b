from __future__ import annotations

import ast
import json
import sysconfig
from pathlib import Path

import pytest

from harness.data.stdlib_corpus import write_corpus

MODULE = '''\
"""What the module is for."""
# A comment that stays.
import sys

def ä(x):   # and its layout
    """Says ä."""
    return  x

class A:
    r"""Nothing but
    words."""

def one(): """On a line."""

def two():
    """First."""; return 2

async def three():
    """
    Indented.

        Deeper.
    """
    text = """not a docstring"""
    def inner():
        "Inner."
        return text
    return inner
'''
STRIPPED = '''\
# A comment that stays.
import sys

def ä(x):   # and its layout
    return  x

class A:
    pass

def one(): pass

def two():
    pass; return 2

async def three():
    text = """not a docstring"""
    def inner():
        return text
    return inner
'''
DOCSTRINGS = "What the module is for.\n\nSays ä.\n\nNothing but\nwords.\n\nOn a line.\n\nFirst.\n\nIndented.\n\n    Deeper.\n\nInner."


def read(path: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {row["name"]: row["text"] for row in rows}


def test_docstrings_and_code_are_separated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "lib"
    padding = "# so that it is long enough to keep\n" * 10
    files = {
        "package/module.py": MODULE + padding,
        "package/long.py": f'"""{"Words." * 40}"""\nx = 1\n',
        "package/test/test_module.py": MODULE + padding,
        "site-packages/other.py": MODULE + padding,
        "broken.py": "def :\n" + padding,
    }
    for name, content in files.items():
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_text(content)
    (library / "latin.py").write_bytes(b"# \xe4\n" + padding.encode())
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(library))
    monkeypatch.setattr("harness.data.stdlib_corpus.FEWEST_CHARACTERS", len(DOCSTRINGS))
    write_corpus(tmp_path)
    assert read(tmp_path / "python.jsonl") == {"package/module.py": STRIPPED + padding}
    english = {name: text for name, text in read(tmp_path / "english.jsonl").items() if not name.startswith("help/")}
    assert english == {"docstrings/package/long.py": "Words." * 40, "docstrings/package/module.py": DOCSTRINGS}


@pytest.mark.slow
@pytest.mark.long
def test_the_real_library_gives_two_corpora(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    english, python = read(tmp_path / "english.jsonl"), read(tmp_path / "python.jsonl")
    assert sum(map(len, english.values())) > 1_000_000
    assert sum(map(len, python.values())) > 5_000_000
    assert min(map(len, [*english.values(), *python.values()])) >= 200
    assert "help/assert" in english
    assert list(python) == sorted(python, key=lambda name: Path(name).parts)
    for text in python.values():
        ast.parse(text)
