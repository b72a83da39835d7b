"""Checkpoints that are damaged, cannot be written, or must not be."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
import torch

from harness.config.errors import InputError
from harness.models.checkpoint_files import checkpoint_path, checkpoints, damage, last_good_checkpoint
from harness.runs.directory import RunDirectory
from harness.runs.exit_codes import MACHINE_FAULT
from harness.runs.files import replacing
from harness.runs.result import read_result
from harness.training import checkpoints as under_test
from harness.training.run_errors import CheckpointError
from harness.work.attempt import attempt
from tests.support.corpus import TinyText
from tests.training.conftest import NewRun
from tests.training.runs import EXACT_RESUME, assert_same_run, load_checkpoint, new_run_of, train_here

OFTEN = (*EXACT_RESUME, "trainer.checkpoint_every_steps=3", "trainer.keep_checkpoints=2")


@pytest.fixture(scope="module")
def runs(tiny_text: TinyText, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run twice: `whole` was left alone, `stopped` is at step 8, with checkpoints of steps 6 and 8."""
    place = tmp_path_factory.mktemp("runs")
    train_here(new_run_of(place / "whole", *tiny_text.overrides, *OFTEN))
    stopped = new_run_of(place / "stopped", *tiny_text.overrides, *OFTEN)
    train_here(stopped, stop_after=8)
    assert list(checkpoints(stopped.checkpoints)) == [6, 8]
    return place


@pytest.fixture
def whole(runs: Path) -> RunDirectory:
    """To compare with."""
    return RunDirectory(runs / "whole")


@pytest.fixture
def stopped(runs: Path, tmp_path: Path) -> RunDirectory:
    """One of its own for every test."""
    return RunDirectory(shutil.copytree(runs / "stopped", tmp_path / "stopped"))


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def another_file(path: Path) -> None:
    path.write_text("not a checkpoint\n")


def test_they_load_as_plain_containers(stopped: RunDirectory) -> None:
    for path in checkpoints(stopped.checkpoints).values():
        assert damage(path) is None
        assert load_checkpoint(path)["optimizer_states"]


def plain_values(path: Path) -> None:
    torch.save({"a": 1}, path)


def no_mapping(path: Path) -> None:
    torch.save([1.0], path)


@pytest.mark.parametrize("spoil", [flip_a_bit, no_mapping])
def test_a_damaged_one_gives_way_to_the_one_before(stopped: RunDirectory, whole: RunDirectory, spoil, caplog) -> None:  # type: ignore[no-untyped-def]
    path = checkpoint_path(stopped.checkpoints, 8)
    spoil(path)
    with caplog.at_level(logging.WARNING):
        done = train_here(stopped)
    assert str(path) in caplog.text
    assert "is damaged" in caplog.text
    assert "going on from the one before, step 6" in caplog.text
    assert done.state == "complete"
    # Two steps were trained twice.
    rows = {row["step"]: row["tokens"] for row in stopped.metrics.rows()}
    assert done.tokens.trained == rows[12] + rows[8] - rows[6]
    assert_same_run(whole, stopped)


def test_what_is_damaged_is_seen_whatever_happened_to_it(stopped: RunDirectory) -> None:
    path, before = checkpoint_path(stopped.checkpoints, 8), checkpoint_path(stopped.checkpoints, 6)
    content = path.read_bytes()
    for spoil in (flip_a_bit, tear, empty, another_file, plain_values, no_mapping):
        path.write_bytes(content)
        assert last_good_checkpoint(stopped.checkpoints) == (8, path)
        spoil(path)
        assert damage(path) is not None
        assert last_good_checkpoint(stopped.checkpoints) == (6, before)


def test_all_damaged_means_starting_over(stopped: RunDirectory, whole: RunDirectory, caplog: pytest.LogCaptureFixture) -> None:
    for path in checkpoints(stopped.checkpoints).values():
        flip_a_bit(path)
    with caplog.at_level(logging.WARNING):
        done = train_here(stopped)
    assert "there is none before it: starting over" in caplog.text
    rows = {row["step"]: row["tokens"] for row in stopped.metrics.rows()}
    assert done.tokens.trained == rows[8] + rows[12]
    assert_same_run(whole, stopped)


def test_damage_anywhere_is_seen(stopped: RunDirectory) -> None:
    """A flipped bit of a tensor, or whatever keeps torch from reading the file; what neither covers is padding."""
    path = checkpoint_path(stopped.checkpoints, 8)
    content, state = path.read_bytes(), load_checkpoint(path)["state_dict"]
    for position in range(0, len(content), len(content) // 60):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x10]) + content[position + 1 :])
        if damage(path) is None:
            assert all(torch.equal(value, state[name]) for name, value in load_checkpoint(path)["state_dict"].items())


def test_a_damaged_one_is_never_kept_in_place_of_a_good_one(stopped: RunDirectory) -> None:
    """With one kept: the damaged one of step 8 is deeper than what is saved next."""
    flip_a_bit(checkpoint_path(stopped.checkpoints, 8))
    text = stopped.config.read_text().replace("keep_checkpoints: 2", "keep_checkpoints: 1")
    stopped.config.write_text(text)
    train_here(stopped, stop_after=7)
    assert last_good_checkpoint(stopped.checkpoints)[0] == 7


def test_what_a_killed_save_left_is_deleted(stopped: RunDirectory) -> None:
    left = stopped.checkpoints / ".step-00000009.ckpt.abc123"
    left.write_bytes(b"half")
    assert last_good_checkpoint(stopped.checkpoints)[0] == 8
    assert not left.exists()


@contextmanager
def full_disk(path: Path) -> Iterator[IO[bytes]]:
    """Like `replacing`, on a disk with room for the first 20 kB."""

    with replacing(path) as stream:
        room = 20_000

        class Full:
            def write(self, content: bytes) -> int:
                nonlocal room
                room -= len(content)
                if room < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return stream.write(content)

            def flush(self) -> None:
                stream.flush()

        yield Full()  # type: ignore[misc]


def test_a_full_disk(stopped: RunDirectory, whole: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(under_test, "replacing", full_disk)
        with pytest.raises(CheckpointError, match=r"step 9 cannot be saved .*No space left on device; the one of step 8 stands"):
            train_here(stopped)
        assert sorted(path.name for path in stopped.checkpoints.iterdir()) == ["step-00000006.ckpt", "step-00000008.ckpt"]
        failed = read_result(stopped)
        rows = {row["step"]: row["tokens"] for row in stopped.metrics.rows()}
        # The disk's fault, not the run's: it waits, and what was lost is not counted.
        assert (failed.state, failed.step, failed.tokens.position) == ("waiting", 9, rows[8])
        assert failed.tokens.trained == rows[8]
        assert attempt(stopped) == MACHINE_FAULT
        failed = read_result(stopped)
        assert failed.reason is not None
        assert failed.reason.startswith("the checkpoint of step 9 cannot be saved")
    train_here(stopped)
    assert_same_run(whole, stopped)


def test_a_first_save_that_fails_says_that_there_is_no_other(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    _, run = new_run("run")
    monkeypatch.setattr(under_test, "replacing", full_disk)
    with pytest.raises(CheckpointError, match="no earlier one exists"):
        train_here(run)
    assert list(run.checkpoints.iterdir()) == []


@pytest.mark.parametrize("final", ["full", "weights"])
def test_killed_between_the_last_save_and_the_result(new_run: NewRun, final: str) -> None:
    _, run = new_run("run", f"trainer.final_checkpoint={final}")
    whole = train_here(run)
    document = json.loads(run.result.read_text())
    trained = document["tokens"]["trained"]
    document |= {"state": "running", "metrics": {}, "step": 0, "tokens": {**document["tokens"], "trained": 0, "position": 0}}
    run.result.write_text(json.dumps(document))
    before = run.metrics.path.read_bytes()
    done = train_here(run)
    assert (done.state, done.step, done.metrics, done.attempts) == ("complete", 4, whole.metrics, 2)
    assert (done.tokens.trained, done.tokens.position) == (trained, trained)
    assert run.metrics.path.read_bytes() == before


@pytest.mark.parametrize(("final", "kept"), [("full", True), ("weights", False), ("none", None)])
def test_what_is_kept_of_a_complete_run(new_run: NewRun, final: str, kept: bool | None) -> None:
    _, run = new_run("run", f"trainer.final_checkpoint={final}", "trainer.checkpoint_every_steps=2")
    train_here(run)
    stored = checkpoints(run.checkpoints)
    if kept is None:
        assert stored == {}
    else:
        assert list(stored) == [4]
        assert ("optimizer_states" in load_checkpoint(stored[4])) is kept


def test_a_checkpoint_is_of_the_step_that_its_name_says(
    stopped: RunDirectory, whole: RunDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint_path(stopped.checkpoints, 8).rename(checkpoint_path(stopped.checkpoints, 11))
    with caplog.at_level(logging.WARNING):
        train_here(stopped)
    assert "it is of step 8" in caplog.text
    assert_same_run(whole, stopped)


EDITS = [("  lr: ", "  lr: 1"), ("  weight_decay: 0.", "  weight_decay: 0.3"), ("  gradient_clip_norm: ", "  gradient_clip_norm: 1")]


def test_a_run_is_not_gone_on_with_as_another(stopped: RunDirectory) -> None:
    before = stopped.config.read_text()
    for old, new in EDITS:
        assert old in before
        stopped.config.write_text(before.replace(old, new))
        with pytest.raises(InputError, match=r"step-00000008\.ckpt: the run's configuration is not the one that its first 8 steps"):
            train_here(stopped)
    stopped.config.write_text(before.replace("evaluation_batch_tokens: ", "evaluation_batch_tokens: 1"))
    assert train_here(stopped).state == "complete"


def test_weights_of_another_model_are_refused(stopped: RunDirectory) -> None:
    path = checkpoint_path(stopped.checkpoints, 8)
    state = torch.load(path, weights_only=True)
    state["state_dict"] = {name: weight[:1] for name, weight in state["state_dict"].items()}
    torch.save(state, path)
    with pytest.raises(InputError, match=r"step-00000008\.ckpt: holds other weights than the run's model: .* and \d+ more"):
        train_here(stopped)


def test_a_checkpoint_behind_the_end_of_the_run_is_refused(stopped: RunDirectory) -> None:
    stopped.config.write_text(stopped.config.read_text().replace("max_steps: 12", "max_steps: 5"))
    with pytest.raises(InputError, match="checkpoint of step 8"):
        train_here(stopped)


HOLDER = """
import os, signal, sys
from pathlib import Path
from harness.runs.files import replacing
with replacing(Path(sys.argv[1])) as stream:
    stream.write(b"half")
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_while_it_writes(tmp_path: Path) -> None:
    path = checkpoint_path(tmp_path, 3)
    path.write_bytes(b"whole")
    done = subprocess.run([sys.executable, "-c", HOLDER, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"whole"
