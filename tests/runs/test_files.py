"""Files that are never half there, and readers that stand what a crash leaves."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from harness.runs.files import (
    append_json_line,
    give_umask_rights,
    read_json,
    read_json_lines,
    replacing,
    replacing_directory,
    scratch_directory,
    write_json,
    write_output,
)
from harness.runs.machine_faults import machine_fault
from harness.runs.metrics import MetricsFile, last_values


def test_a_new_file_takes_the_old_ones_place(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "result.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})
    assert read_json(path) == {"a": 2}
    assert [entry.name for entry in path.parent.iterdir()] == ["result.json"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o400


def test_a_block_that_raises_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as stream:
            stream.write(b"half of the new")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_user_names_to_write_stays_what_it_is(tmp_path: Path) -> None:
    """A link, a pipe and a device are not replaced by a file."""
    (tmp_path / "victim").write_text("before")
    (tmp_path / "link").symlink_to("victim")
    write_output(tmp_path / "link", "page")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "victim").read_text() == "page"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_output(tmp_path / "pipe", "page")
    assert os.read(reader, 100) == b"page"
    os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["link", "pipe", "victim"]


def test_a_device_is_written_to_and_named_when_it_is_full() -> None:
    with pytest.raises(OSError, match="No space left") as raised:
        write_output(Path("/dev/full"), "page")
    assert "/dev/full: No space left on device" in str(machine_fault(raised.value))
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


LEFT = """
import os, signal, sys
from pathlib import Path
from harness.runs.files import scratch_directory
with scratch_directory(Path(sys.argv[1]), ".recipe.") as scratch:
    (scratch / "half").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_file_that_the_disk_cannot_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    write_json(tmp_path / "result.json", {})
    with monkeypatch.context() as patched:
        patched.setattr(os, "read", broken)
        with pytest.raises(OSError, match=r"result\.json") as raised:
            read_json(tmp_path / "result.json")
    assert str(machine_fault(raised.value)).startswith(f"{tmp_path}/result.json: Input/output error; the disk at")


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", LEFT, str(tmp_path)], check=False).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    others = [tmp_path / name for name in (".recipe.mine", ".recipes.0123456789abcdef", "recipe.0123456789abcdef")]
    for other in others:
        other.mkdir()
    with scratch_directory(tmp_path, ".recipe.") as one, scratch_directory(tmp_path, ".recipe.") as two:
        assert not left.exists()
        assert one.is_dir(), "its process lives"
        assert stat.S_IMODE(two.stat().st_mode) == 0o700
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_a_directory_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    def fail() -> None:
        with replacing_directory(tmp_path / "out") as directory:
            (directory / "half").touch()
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert not list(tmp_path.iterdir())
    with replacing_directory(tmp_path / "out") as directory:
        (directory / "whole").touch()
        assert not (tmp_path / "out").exists()
    assert [entry.name for entry in tmp_path.rglob("*")] == ["out", "whole"]


def test_a_file_has_the_mode_of_the_umask_which_is_never_changed_for_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patched:
            # It is the whole process's: a file that another thread makes meanwhile would be open to everybody.
            patched.setattr(os, "umask", lambda mask: pytest.fail("the umask was set"))
            write_json(tmp_path / "result.json", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "result.json").stat().st_mode) == 0o640


@pytest.mark.usefixtures("umask_of_a_group")
def test_rights_are_those_that_the_umask_leaves(tmp_path: Path) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    folder.chmod(0o2700)
    file.touch(0o600)
    give_umask_rights(folder, file)
    assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(file.stat().st_mode)) == (0o2750, 0o640)


def test_numbers_that_json_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"loss": 1.0})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"loss": float("nan")})
    assert read_json(path) == {"loss": 1.0}


def test_no_file_is_no_document(tmp_path: Path) -> None:
    assert read_json(tmp_path / "none.json") is None
    assert list(read_json_lines(tmp_path / "none.jsonl")) == []


@pytest.fixture
def metrics(tmp_path: Path) -> MetricsFile:
    return MetricsFile(tmp_path / "metrics.jsonl")


def test_one_row_a_step_and_the_last_one_counts(metrics: MetricsFile) -> None:
    assert (metrics.rows(), metrics.last(), metrics.newest()) == ([], None, None)
    for step, loss in ((0, 5.0), (10, 4.0), (20, 3.0), (10, 4.5)):
        metrics.append({"step": step, "train/loss": loss})
    assert metrics.rows() == [{"step": 0, "train/loss": 5.0}, {"step": 10, "train/loss": 4.5}, {"step": 20, "train/loss": 3.0}]
    assert metrics.last() == {"step": 20, "train/loss": 3.0}
    assert metrics.newest() == {"step": 10, "train/loss": 4.5}


def test_a_torn_line_is_skipped_and_not_glued_to_the_next(metrics: MetricsFile) -> None:
    metrics.append({"step": 0, "train/loss": 5.0})
    with metrics.path.open("ab") as stream:
        stream.write(b'{"step": 10, "train/lo')
    assert [row["step"] for row in metrics.rows()] == [0]
    metrics.append({"step": 10, "train/loss": 4.0})
    assert metrics.rows() == [{"step": 0, "train/loss": 5.0}, {"step": 10, "train/loss": 4.0}]


@pytest.mark.parametrize("line", [b"[1, 2]\n", b"7\n", b"\n", b"{}\n", b'{"step": "three"}\n', b"\xff\xfe\n", b"\x00\x00\x00\n"])
def test_what_is_no_row_is_skipped(metrics: MetricsFile, line: bytes) -> None:
    metrics.path.write_bytes(line)
    metrics.append({"step": 1})
    assert metrics.rows() == [{"step": 1}]
    assert metrics.newest() == {"step": 1}


def test_what_is_not_finite_becomes_null(metrics: MetricsFile) -> None:
    metrics.append({"step": 1, "a": float("nan"), "b": float("inf"), "c": -float("inf"), "d": 0.5})
    assert json.loads(metrics.path.read_text()) == {"step": 1, "a": None, "b": None, "c": None, "d": 0.5}


def test_the_last_value_of_every_metric() -> None:
    rows = [
        {"step": 0, "tokens": 0, "val/a/loss": 5.0},
        {"step": 10, "tokens": 100, "train/loss": 4.0, "val/a/loss": 4.5},
        {"step": 20, "tokens": 200, "train/loss": 3.0, "lr": None},
    ]
    assert last_values(rows) == {"val/a/loss": 4.5, "train/loss": 3.0}
    assert last_values([]) == {}


def test_appended_rows_are_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_json_line(path, {"text": "two\nlines"})
    append_json_line(path, {"text": "\u2028 and a line separator"})
    assert [row["text"] for row in read_json_lines(path)] == ["two\nlines", "\u2028 and a line separator"]
