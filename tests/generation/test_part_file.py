"""What is on disk of texts that are being written."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.generation.part_file import PartFile
from harness.generation.rows import Draw, Generation, Prompt

ROWS = [Draw(Prompt(f"p{number}", f"say {number}\n", (1, 2)), draw) for number in range(3) for draw in range(2)]
HEADER = {"model": "m", "sampling": {"seed": 0}}


def text_of(row: Draw) -> Generation:
    return Generation(row.prompt.id, row.draw, f"é{row.draw}\u2028\n", (3, 4, 5), "length")


def begin(out: Path, header: dict[str, Any] = HEADER, *, restart: bool = False) -> PartFile:
    return PartFile(out, header, restart=restart)


def test_rows_end_in_any_order_and_stand_in_their_own(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with begin(out) as part:
        for row in reversed(ROWS):
            part.append(row, text_of(row))
        assert not out.exists()
        part.finish(ROWS)
    found = [json.loads(line) for line in out.read_text().split("\n")[:-1]]
    assert [(row["id"], row["draw"]) for row in found] == [(row.prompt.id, row.draw) for row in ROWS]
    assert list(found[0]) == ["id", "prompt", "draw", "text", "tokens", "token_ids", "finish"]
    assert (found[1]["text"], found[1]["tokens"], found[1]["prompt"]) == ("é1\u2028\n", 3, "say 0\n")
    assert sorted(file.name for file in tmp_path.iterdir()) == [".out.jsonl.header.json", "out.jsonl"]
    before = out.read_bytes()
    with begin(out) as part:
        assert part.is_complete
        assert list(part.finished.values()) == found
    assert out.read_bytes() == before
    with pytest.raises(InputError, match=r"out\.jsonl: holds texts of another command, whose model was other"):
        begin(out, HEADER | {"model": "n"})
    out.write_bytes(before[:-1] + b" \n")
    with pytest.raises(InputError, match=r"is there already; valid: another file, or --restart"):
        begin(out)
    assert not list(tmp_path.glob("*.part"))
    assert not list(tmp_path.glob(".*.lock"))


@pytest.mark.parametrize("cut", range(0, 400, 9))
def test_a_file_that_was_cut_anywhere_has_its_whole_rows(tmp_path: Path, cut: int) -> None:
    out = tmp_path / "out.jsonl"
    with begin(out) as part:
        for row in ROWS:
            part.append(row, text_of(row))
    whole = part.path.read_bytes()
    part.path.write_bytes(whole[:cut])
    with begin(out) as part:
        there = max(0, whole[:cut].count(b"\n") - 1)
        assert list(part.finished) == [(row.prompt.id, row.draw) for row in ROWS[:there]]
        for row in ROWS[there:]:
            part.append(row, text_of(row))
        assert part.path.read_bytes() == whole


@pytest.mark.parametrize("other", [HEADER | {"model": "n"}, HEADER | {"sampling": {"seed": 1}}, {"model": "m"}, HEADER | {"more": 1}])
def test_texts_of_another_command_are_not_gone_on_with(tmp_path: Path, other: dict[str, Any]) -> None:
    out = tmp_path / "out.jsonl"
    with begin(out) as part:
        part.append(ROWS[0], text_of(ROWS[0]))
    before = part.path.read_bytes()
    with pytest.raises(InputError, match=r"out\.jsonl\.part: holds texts of another command, whose (model|sampling|more) was other"):
        begin(out, other)
    assert part.path.read_bytes() == before
    with begin(out, other, restart=True) as part:
        assert part.finished == {}
        assert len(part.path.read_text().splitlines()) == 1


@pytest.mark.parametrize("left", ["", json.dumps(HEADER)[:9], json.dumps(HEADER) + "\n"])
def test_a_file_without_rows_is_in_nobodys_way(tmp_path: Path, left: str) -> None:
    other = HEADER | {"model": "n"}
    path = tmp_path / "out.jsonl.part"
    path.write_text(left)
    with begin(tmp_path / "out.jsonl", other):
        assert json.loads(path.read_text()) == other
    assert not list(tmp_path.iterdir())


def test_what_is_no_row_is_damage(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    (tmp_path / "out.jsonl.part").write_text(json.dumps(HEADER) + "\n[1]\n")
    with pytest.raises(InputError, match=r"damaged.*--restart begins anew"):
        begin(out)


def test_a_finished_file_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("mine\n")
    with pytest.raises(InputError, match=r"is there already; valid: another file, or --restart"):
        begin(out)
    with begin(out, restart=True):
        assert out.read_text() == "mine\n"  # until there is another
    with pytest.raises(InputError, match="its directory does not exist"):
        begin(tmp_path / "no" / "out.jsonl")
    with pytest.raises(InputError, match="a directory"):
        begin(tmp_path)


def test_two_commands_do_not_write_one_file(tmp_path: Path) -> None:
    with begin(tmp_path / "out.jsonl"), pytest.raises(InputError, match="another process writes it"):
        begin(tmp_path / "out.jsonl")


def test_a_full_disk_loses_no_row_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.jsonl"
    real = os.write
    with begin(out) as part:
        part.append(ROWS[0], text_of(ROWS[0]))

        def full(stream: int, content: bytes) -> int:
            if len(content) > 20:
                return real(stream, content[:20])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match=r"No space left on device: .*out\.jsonl\.part"):
            part.append(ROWS[1], text_of(ROWS[1]))
    monkeypatch.undo()
    with begin(out) as part:
        assert list(part.finished) == [("p0", 0)]
