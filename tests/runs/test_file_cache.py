"""Files that are read again only when they were replaced."""

from __future__ import annotations

from pathlib import Path

from harness.runs.file_cache import FileCache
from harness.runs.files import read_json, write_json


def test_a_file_is_parsed_again_when_it_was_replaced_and_only_then(tmp_path: Path) -> None:
    parsed: list[Path] = []

    def parse(path: Path) -> object:
        parsed.append(path)
        return read_json(path)

    path = tmp_path / "a.json"
    reader = FileCache(parse)
    assert reader.read(str(path)) is None
    assert reader.read(str(path)) is None
    write_json(path, {"n": 1})
    assert [reader.read(str(path)) for _ in range(3)] == [{"n": 1}] * 3
    assert len(parsed) == 2, "once while it was absent, once since"
    write_json(path, {"n": 2})
    assert reader.read(str(path)) == {"n": 2}
    path.unlink()
    assert reader.read(str(path)) is None
