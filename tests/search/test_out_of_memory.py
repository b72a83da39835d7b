"""A trial for which memory does not suffice: failed with its reason, or tried again with less, and comparable then."""

from __future__ import annotations

import os
import resource
import threading
import time
from pathlib import Path

import pytest

from harness.config.load import load, load_file
from harness.config.micro_batch import with_smaller_micro_batch
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.exit_codes import OUT_OF_MEMORY
from harness.runs.oom_kills import oom_kills
from harness.runs.result import read_result
from harness.search.open_study import open_study
from harness.search.study import Study
from harness.search.worker import Worker
from harness.work.attempt import attempt_trial
from tests.search.conftest import MakeSweep, WriteSweep
from tests.search.studies import Attempt, check_in_step, fake_attempt
from tests.search.test_study import claimed

ROOM_BYTES = 400_000_000
"""What an attempt may take on top of what it has imported: too little for all rows of a step at once, enough for some of them."""


def attempt_in_little_room(directory: str) -> int:
    """The real attempt, whose allocations beyond a limit the kernel refuses.

    What it imports is not counted: the server that it is forked from may be one of another test, which has not imported training.
    """
    import torch

    import harness.training.train  # noqa: F401

    torch.set_num_threads(1)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ROOM_BYTES, mapped + ROOM_BYTES))
    return attempt_trial(directory)


def test_half_the_micro_batch_is_the_same_batch(tiny: list[str]) -> None:
    config = load([*tiny, "trainer.batch_tokens=576"]).config  # 18 rows
    sizes = []
    while smaller := with_smaller_micro_batch(config):
        config = smaller
        sizes.append(config.trainer.micro_batch_size)
    assert sizes == [9, 3, 1]
    assert config.trainer.batch_tokens == 576
    assert with_smaller_micro_batch(load([*tiny, "trainer.initial_batch_tokens=32"]).config) is None, "a first step of one row"


def test_it_is_failed_at_once_with_its_reason(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget={"trials": 2})
    directory = open_study(sweep)
    study = Study(directory, sweep, "w")
    claim = claimed(study)
    assert study.prepare(claim)
    Attempt(claim.run).crash(100, "out of memory: CUDA out of memory. Tried to allocate 2.00 GiB.")
    result = study.settle(claim, OUT_OF_MEMORY)
    assert (result.state, result.failures) == ("failed", 0)
    assert result.reason == "out of memory: CUDA out of memory. Tried to allocate 2.00 GiB."
    assert claimed(study).number == 1, "the study goes on"
    check_in_step(directory)


def test_it_is_tried_again_with_less_until_one_row_is_too_much(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget={"trials": 1}, search={"out_of_memory": "halve_micro_batch", "max_attempts": 1})
    directory = open_study(sweep)
    study = Study(directory, sweep, "w")
    reasons = []
    for _ in range(3):
        claim = claimed(study)
        assert study.prepare(claim)
        Attempt(claim.run).crash(100, "out of memory: MemoryError")
        reasons.append(study.settle(claim, OUT_OF_MEMORY).reason)
    assert reasons == [
        "out of memory: MemoryError; once more with trainer.micro_batch_size=2",
        "out of memory: MemoryError; once more with trainer.micro_batch_size=1",
        "out of memory: MemoryError",
    ]
    assert study.claim() == "done"
    check_in_step(directory, ended=True)


def test_what_the_kernel_killed_for_memory_is_counted(tmp_path: Path) -> None:
    group = tmp_path / "cgroup" / "slurm" / "job_7"
    group.mkdir(parents=True)
    (group / "memory.events").write_text("low 0\nhigh 3\nmax 12\noom 2\noom_kill 2\noom_group_kill 0\n")
    process = tmp_path / "proc"
    process.mkdir()
    (process / "cgroup").write_text("1:name=systemd:/\n0::/slurm/job_7\n")
    assert oom_kills(process, tmp_path / "cgroup") == 2
    (group / "memory.events.local").write_text("oom 1\noom_kill 1\n")
    assert oom_kills(process, tmp_path / "cgroup") == 1, "not those of groups below"
    (process / "cgroup").write_text("4:memory:/slurm/job_7\n")
    assert oom_kills(process, tmp_path / "cgroup") is None


@pytest.mark.slow
def test_a_trial_that_runs_out_of_memory_ends_as_one_that_had_enough(
    write_sweep: WriteSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel refuses an allocation of the real training; with half the rows at a time, and half of that, it suffices."""
    from harness.search.load_sweep import load_sweep

    # 2,048 rows of 32 tokens, 300 logits each: some hundred megabytes.
    long = ["trainer.batch_tokens=65536", "trainer.max_steps=2", "data.replay_share=0"]
    found: dict[str, tuple[RunDirectory, float]] = {}
    for policy, attempt in (("halve_micro_batch", attempt_in_little_room), ("fail", attempt_trial)):
        path = write_sweep(policy, base=long, budget={"trials": 1}, search={"name": "random", "out_of_memory": policy})
        directory: StudyDirectory = open_study(load_sweep(str(path), []))
        assert Worker(directory, attempt, ["harness.training.train", "tests.search.test_out_of_memory"]).work() == 0
        run = directory.trial(0)
        result = read_result(run)
        assert result.state == "complete", (result.reason, run.log.read_text()[-2000:])
        assert result.objective is not None
        found[policy] = run, result.objective
    little, enough = found["halve_micro_batch"], found["fail"]
    assert load_file(little[0].config).trainer.micro_batch_size is not None
    assert read_result(little[0]).attempts > 1
    assert little[1] == pytest.approx(enough[1], rel=1e-5)


def attempt_killed_after_2_s(directory: str) -> int:
    """It sets its own environment: an attempt has that of the server which it is forked from, and this process may have one already."""
    os.environ.update(FATES="all:kill", ATTEMPT_SECONDS="2")
    return fake_attempt(directory)


@pytest.mark.parametrize(("rises_after", "reason"), [(0.2, "killed by SIGKILL"), (1.9, "out of memory")])
def test_a_kill_counts_as_out_of_memory_if_the_kernel_killed_for_memory_just_then(
    make_sweep: MakeSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rises_after: float, reason: str
) -> None:
    """The counter is of all workers of a cgroup: what rose while the attempt went on was another one's death."""
    process, counter = tmp_path / "proc", tmp_path / "cgroup" / "memory.events"
    for folder in (process, counter.parent):
        folder.mkdir()
    (process / "cgroup").write_text("0::/\n")
    counter.write_text("oom_kill 0\n")
    monkeypatch.setattr(oom_kills, "__defaults__", (process, counter.parent))
    monkeypatch.setattr("harness.runs.oom_kills.DYING_SECONDS", 1.0)
    sweep = make_sweep(budget={"trials": 1}, search={"max_attempts": 1})
    directory = open_study(sweep)
    begun = directory.trial(0).path / "times.jsonl"

    def rise() -> None:
        while not begun.exists():
            time.sleep(0.01)
        time.sleep(rises_after)
        counter.write_text("oom_kill 1\n")

    thread = threading.Thread(target=rise)
    thread.start()
    assert Worker(directory, attempt_killed_after_2_s, ["tests.search.studies"]).work() == 0
    thread.join()
    assert str(read_result(directory.trial(0)).reason).startswith(reason)
