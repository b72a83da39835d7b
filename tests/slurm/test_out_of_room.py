"""What becomes of a study on a cluster whose disk is full, and of a trial whose memory does not suffice."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from harness.runs.result import read_result
from harness.search.status import read_status
from tests.search.studies import check_in_step
from tests.slurm.conftest import EVERY, NewStudy
from tests.support.slurm.cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.long]

DISK_BYTES = 24_000_000
ROOM_BYTES = 200_000
"""Less than a checkpoint, enough for rows, logs and results."""
ADDRESS_SPACE_KB = 1_900_000
"""Enough for an attempt of the tiny model, which maps 1.1 GB by what it imports, but for none of 8,192 rows at once."""


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    """The directory of runs, on a small disk of its own."""
    runs = tmp_path / "runs"
    runs.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "harness-test", runs]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here, as in a container without privileges: {mounted.stderr.strip()}")
    try:
        yield runs
    finally:
        subprocess.run(["umount", "--lazy", runs], check=True)


@contextmanager
def filled(disk: Path, *, room: int) -> Iterator[Callable[[], None]]:
    """The disk has `room` bytes left, at no moment less, and no more again when what this gives is called.

    A checkpoint that was being saved may yet take the place of the one before, and so make room for all later ones.
    """
    ballast = disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as stream:

            def fill() -> None:
                found = os.statvfs(disk)
                with suppress(OSError):  # somebody else was quicker
                    stream.write(bytes(max(0, found.f_bavail * found.f_frsize - room)))

            fill()
            yield fill
    finally:
        ballast.unlink()


def test_a_full_disk(slurm: Cluster, runs: Path, new_study: NewStudy) -> None:
    """No checkpoint can be saved: the worker says so and leaves, and the one before stands; with room again, the trial goes on from it."""
    study = new_study(search={"name": "random", "max_attempts": 1})
    study.submit(1)
    study.wait_for_step(2 * EVERY)
    assert study.directory.path.resolve().is_relative_to(runs.resolve())
    with filled(runs, room=ROOM_BYTES) as fill:
        study.wait(lambda: fill() or not study.processes(), "the worker to leave")
        stood = max(int(path.stem.removeprefix("step-")) for path in study.run().checkpoints.glob("step-*.ckpt"))
        assert "cannot be saved" in study.run().log.read_text()
        assert "No space left on device" in study.run().log.read_text()
    left = study.result()
    assert (left.state, left.failures) == ("waiting", 0), study.said()
    assert f"the disk at {runs.resolve()} is full" in (left.reason or "")
    study.submit(1)
    study.wait_for_step(stood + 2 * EVERY)
    result = study.result()
    assert result.step >= stood, "nothing before the checkpoint that stood is trained again"
    assert len(list(study.directory.trials())) == 1
    assert {claim.place.restart for claim in study.trial().claims} == {0}, "no job goes back into the queue for it"
    check_in_step(study.directory)


def test_a_disk_without_a_byte_left(slurm: Cluster, runs: Path, new_study: NewStudy) -> None:
    """Nothing at all can be written, no row, no result, no record of the search; with room again, the trial goes on."""
    study = new_study(search={"name": "random", "max_attempts": 1})
    study.submit(1)
    study.wait_for_step(2 * EVERY)
    with filled(runs, room=0) as fill:
        study.wait(lambda: fill() or not study.processes(), "the worker to leave")
        stood = max(int(path.stem.removeprefix("step-")) for path in study.run().checkpoints.glob("step-*.ckpt"))
    study.submit(1)
    study.wait_for_step(stood + 2 * EVERY)
    assert len(list(study.directory.trials())) == 1
    study.directory.stop_request.touch()
    study.wait(lambda: not study.processes(), "all to leave")
    assert (study.result().state, study.result().reason) == ("waiting", "stopped"), study.said()
    check_in_step(study.directory)


def test_a_trial_that_needs_more_memory_than_its_job_has_fails_alone(slurm: Cluster, new_study: NewStudy) -> None:
    """The limit is one that the profile sets on the node; the kernel refuses what goes beyond it."""
    base = ("trainer.batch_tokens=262144", "trainer.max_steps=1", "data.replay_share=0")
    space = {"trainer.micro_batch_size": {"choices": [8192, 64]}}
    study = new_study(base=base, space=space, search="grid", budget={"trials": 2})
    study.submit(1, setup=[f"ulimit -v {ADDRESS_SPACE_KB}"])
    study.wait(lambda: read_status(study.directory).is_finished, "both trials to end")
    results = {number: read_result(study.run(number)) for number in range(2)}
    sizes = {number: study.trial(number).params["trainer.micro_batch_size"] for number in results}
    by_size = {sizes[number]: result for number, result in results.items()}
    assert (by_size[8192].state, by_size[8192].failures, by_size[8192].attempts) == ("failed", 0, 1), study.said()
    assert (by_size[8192].reason or "").startswith("out of memory: "), study.said()
    assert by_size[64].state == "complete", study.said()
    study.wait(lambda: not study.processes(), "the worker to leave")
    check_in_step(study.directory, ended=True)
