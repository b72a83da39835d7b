"""Several ranks train what one would: the same losses, the same weights, checkpoints that go from one number of ranks to another."""

from __future__ import annotations

import multiprocessing
import re
from pathlib import Path

import pytest
import torch

from harness.config.load import load_file
from harness.launch.local_ranks import LocalRanks
from harness.runs.directory import RunDirectory
from harness.runs.result import Result, read_result
from harness.training.ranks import connected
from harness.training.stop_flag import RankZeroStops
from harness.work.attempt import follow
from tests.training.conftest import NewRun
from tests.training.runs import EXACT_RESUME, assert_same_run, final_state, rows_without_speed, train_here

pytestmark = pytest.mark.slow


def train_on_ranks(run: RunDirectory, *, stop_after: int | None = None) -> Result:
    """One attempt on as many ranks of this machine as the run's configuration says."""
    if load_file(run.config).trainer.devices == 1:
        return train_here(run, stop_after=stop_after)
    # An attempt has a process of its own: torch remembers more of a world than it forgets at its end.
    process = multiprocessing.get_context("fork").Process(target=_rank_0, args=(run, stop_after))
    process.start()
    process.join(60)
    if process.is_alive():
        process.kill()
    assert process.exitcode == 0
    return read_result(run)


def _rank_0(run: RunDirectory, stop_after: int | None) -> None:
    config = load_file(run.config)
    local = LocalRanks(config.trainer.devices, lambda world: follow(run, config, world, RankZeroStops()), on_stuck=pytest.fail)
    try:
        with connected(local.world, accelerator="cpu", listener=local.listener):
            train_here(run, stop_after=stop_after)
    finally:
        local.end()
        assert local.failure() is None


def set_trainer(run: RunDirectory, **values: object) -> None:
    """Change keys of the run's trainer, as somebody does who goes on with it elsewhere."""
    text = run.config.read_text()
    for key, value in values.items():
        text, count = re.subn(rf"^  {key}: .*$", f"  {key}: {value}", text, flags=re.MULTILINE)
        assert count == 1
    run.config.write_text(text)


def assert_close(one: RunDirectory, other: RunDirectory) -> None:
    """To float tolerance: sums of the same terms in another order; Adam divides by a root, which enlarges what is near zero."""
    for a, b in zip(rows_without_speed(one), rows_without_speed(other), strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-6)
    a, b = final_state(one), final_state(other)
    torch.testing.assert_close(a["state_dict"], b["state_dict"], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(a["optimizer_states"], b["optimizer_states"], rtol=1e-3, atol=1e-5)


UNEVEN = ("data.packing=padded", "trainer.batch_tokens=256", "trainer.max_steps=5", "trainer.evaluate_every_steps=2", "optim.lr=1e-2")
"""Rows with few and with many tokens: a mean of means would be off by more than any rounding."""


@pytest.mark.parametrize("divided", [(2, 4, "ddp"), (2, 1, "ddp"), (2, 2, "fsdp2"), (3, 1, "ddp")])
def test_ranks_divide_a_step_without_changing_it(new_run: NewRun, divided: tuple[int, int, str]) -> None:
    devices, micro, strategy = divided
    batch = ("trainer.batch_tokens=192",) if devices == 3 else ()
    _, one = new_run("one", *UNEVEN, *batch)
    train_here(one)
    _, several = new_run(
        "several", *UNEVEN, *batch, f"trainer.devices={devices}", f"trainer.micro_batch_size={micro}", f"trainer.strategy={strategy}"
    )
    done = train_on_ranks(several)
    assert (done.state, done.tokens.trained) == ("complete", done.tokens.budgeted)
    assert_close(one, several)
    first, same = rows_without_speed(one)[0], rows_without_speed(several)[0]
    assert {key: value for key, value in first.items() if "forgetting" not in key} == {
        key: pytest.approx(value, rel=1e-9) for key, value in same.items() if "forgetting" not in key
    }


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_stopped_and_resumed_to_the_same_bits(new_run: NewRun, strategy: str) -> None:
    """With dropout: every rank goes on with numbers of its own."""
    overrides = (*EXACT_RESUME, "trainer.devices=2", "trainer.micro_batch_size=1", f"trainer.strategy={strategy}")
    _, whole = new_run("whole", *overrides)
    train_on_ranks(whole)
    _, parts = new_run("parts", *overrides)
    assert train_on_ranks(parts, stop_after=5).step == 5
    assert train_on_ranks(parts).state == "complete"
    assert_same_run(whole, parts)
    random = final_state(parts)["callbacks"]["StepEnd"]["random"]
    assert len(random) == 2
    assert not torch.equal(random[0]["torch"], random[1]["torch"])


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
@pytest.mark.parametrize("first", [1, 2])
def test_a_checkpoint_goes_on_elsewhere(new_run: NewRun, strategy: str, first: int) -> None:
    """Saved on one rank, resumed on two, and the reverse."""
    length = ("trainer.max_steps=8", "trainer.micro_batch_size=1", f"trainer.strategy={strategy}", "optim.lr=1e-2")
    _, whole = new_run("whole", *length)
    train_here(whole)
    _, parts = new_run("parts", *length, f"trainer.devices={first}")
    assert train_on_ranks(parts, stop_after=4).step == 4
    set_trainer(parts, devices=3 - first)
    assert train_on_ranks(parts).state == "complete"
    assert_close(whole, parts)


def test_bfloat16_on_two_ranks(new_run: NewRun) -> None:
    _, one = new_run("one", "trainer.precision=bf16-mixed")
    train_here(one)
    _, two = new_run("two", "trainer.precision=bf16-mixed", "trainer.devices=2", "trainer.strategy=fsdp2")
    train_on_ranks(two)
    for a, b in zip(one.metrics.rows(), two.metrics.rows(), strict=True):
        for name in {"train/loss", "val/domain/loss"} & a.keys():
            assert a[name] == pytest.approx(b[name], rel=1e-2)


def test_nothing_but_rank_0_writes(new_run: NewRun) -> None:
    _, run = new_run("run", "trainer.devices=2", "trainer.checkpoint_every_steps=2")
    train_on_ranks(run)
    lines = run.path.joinpath("metrics.jsonl").read_text().splitlines()
    assert len(lines) == 5
    assert sorted(path.name for path in Path(run.checkpoints).iterdir()) == ["step-00000004.ckpt"]
