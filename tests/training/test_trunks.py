"""A run that goes on from another run's state ends with the bits of a run from scratch, and says what it did not train itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from harness.config.load import load
from harness.models.checkpoint_files import trunk_problem
from harness.runs.directory import RunDirectory
from harness.runs.locks import is_held
from harness.runs.result import Result, read_result
from harness.runs.trunks import Trunk, TrunkInfo, TrunkStore, trunk_key
from harness.training.run_errors import ReservedTooLittleError, TrunkUnderWayError
from harness.training.trunk_path import Trunks
from tests.support.corpus import TinyText
from tests.training.conftest import NewRun
from tests.training.runs import EXACT_RESUME, assert_same_run, new_run_of, train_here

WSD = (*EXACT_RESUME, "schedule=wsd", "schedule.warmup=2")
LATE = "schedule.decay_fraction=0.25"  # begins after 9 of 12 steps; its first step is still at the full rate
MUON = ("optim=muon", "optim.adamw_lr_ratio=0.5", "optim.ema_decay=0.7")
INFINITE = (*EXACT_RESUME, "schedule=infinite", "schedule.warmup=2", "schedule.cooldown=3", LATE)
GROWING = ("trainer.initial_batch_tokens=64", "trainer.batch_warmup=3")


@pytest.fixture
def store(tmp_path: Path) -> TrunkStore:
    return TrunkStore(tmp_path / "trunks")


def train_branch(new_run: NewRun, store: TrunkStore, name: str, overrides: tuple[str, ...], *relatives: tuple[str, ...]) -> RunDirectory:
    """Train a run with the trunks of a study in which these relatives may come."""
    configs = tuple(new_run(f"{name}-relative-{index}", *relative)[0] for index, relative in enumerate(relatives))
    _, run = new_run(name, *overrides)
    train_here(run, trunks=Trunks(store, configs))
    return run


TRUNK = (*WSD, LATE)
BRANCHES = {
    "another decay": ((*TRUNK, "schedule.decay_shape=linear", "schedule.floor=0.5"), 10),
    "another kind of decay": ((*TRUNK, "schedule.decay_betas=[0.8,0.9]", "schedule.decay_replay_share=0.8"), 9),
    "weight decay": ((*TRUNK, "schedule.decay_weight_decay=0.5"), 9),
    "an earlier decay": ((*WSD, "schedule.decay_fraction=0.5"), 7),
    # The longer run leaves the shorter one's path where that decays, whichever came first.
    "longer": ((*TRUNK, "trainer.max_steps=16"), 10),
    "without decay": ((*EXACT_RESUME, "schedule=constant", "schedule.warmup=2"), 10),
}
"""Overrides, and how many steps such a run shares with TRUNK."""


@pytest.fixture(scope="module")
def trunks_of_one_run(tiny_text: TinyText, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrunkStore, dict[int, float]]:
    """What a run leaves to all of BRANCHES; its tokens by step."""
    place = tmp_path_factory.mktemp("trunks")
    branches = tuple(load([*tiny_text.overrides, *overrides]).config for overrides, _ in BRANCHES.values())
    store, run = TrunkStore(place / "trunks"), new_run_of(place / "first", *tiny_text.overrides, *TRUNK)
    train_here(run, trunks=Trunks(store, branches))
    return store, {int(row["step"]): row["tokens"] for row in run.metrics.rows()}


@pytest.mark.parametrize("name", BRANCHES)
def test_each_branch_of_a_trunk_ends_like_a_run_from_scratch(
    name: str, trunks_of_one_run: tuple[TrunkStore, dict[int, float]], new_run: NewRun
) -> None:
    (store, tokens), (overrides, shared) = trunks_of_one_run, BRANCHES[name]
    assert [stored.info.step for stored in store.trunks()] == [7, 9, 10]
    assert ends_like_a_run_from_scratch(new_run, store, overrides).tokens.shared == tokens[shared]


@pytest.mark.parametrize(
    ("trunk", "branch", "shared"),
    [
        ((*WSD, LATE, "trainer.max_steps=16"), (*WSD, LATE), 10),
        ((*INFINITE, "data.packing=concat"), (*INFINITE, "data.packing=concat", "schedule.decay_shape=cosine"), 10),
        # Momentum of two kinds, and an average that begins with the trunk.
        ((*WSD, LATE, *MUON, "data.packing=padded"), (*WSD, LATE, *MUON, "data.packing=padded", "schedule.floor=0.5"), 10),
        # A batch that grows, and text that is replayed while the rate decays only.
        ((*WSD, LATE, *GROWING), (*WSD, LATE, *GROWING, "schedule.floor=0.1"), 10),
        ((*WSD, LATE, "data.replay_share=0"), (*WSD, LATE, "data.replay_share=0", "schedule.decay_replay_share=0.5"), 9),
    ],
)
def test_a_branch_ends_like_a_run_from_scratch(
    trunk: tuple[str, ...], branch: tuple[str, ...], shared: int, new_run: NewRun, store: TrunkStore
) -> None:
    train_branch(new_run, store, "first", trunk, branch)
    assert [stored.info.step for stored in store.trunks()] == [shared]
    ends_like_a_run_from_scratch(new_run, store, branch)


def ends_like_a_run_from_scratch(new_run: NewRun, store: TrunkStore, overrides: tuple[str, ...]) -> Result:
    """What a run that goes on from a trunk came to, once that was compared."""
    _, branch = new_run("branch", *overrides)
    result = train_here(branch, trunks=Trunks(store))
    _, scratch = new_run("scratch", *overrides)
    whole = train_here(scratch)
    assert_same_run(branch, scratch)
    assert result.tokens.shared > 0
    assert result.tokens.trained == result.tokens.budgeted
    assert result.tokens.trained + result.tokens.shared == whole.tokens.trained
    assert result.metrics.keys() == whole.metrics.keys()
    return result


def test_leaving_a_state_to_others_changes_nothing(new_run: NewRun, store: TrunkStore) -> None:
    first = train_branch(new_run, store, "first", (*WSD, LATE), (*WSD, "schedule.decay_fraction=0.5"))
    assert list(store.trunks())
    _, alone = new_run("alone", *WSD, LATE)
    train_here(alone)
    assert_same_run(first, alone)


OTHERS = (
    "seed=1",
    "optim.lr=2e-3",
    "optim.eps=1e-6",
    "schedule.warmup=3",
    "data.context_length=16",
    "data.replay_share=0.5",
    "trainer.micro_batch_size=4",
    "trainer.batch_tokens=512",
    "trainer.evaluate_every_steps=4",
    "model.attention_dropout=0.1",
    "data.validation.domain.max_tokens=100",
)


def test_what_differs_from_the_start_shares_nothing(trunks_of_one_run: tuple[TrunkStore, dict[int, float]], new_run: NewRun) -> None:
    store, _ = trunks_of_one_run
    for other in OTHERS:
        _, run = new_run(other, *TRUNK, other)
        # Where it goes on from is known before its first step.
        begun = train_here(run, stop_after=1, trunks=Trunks(store))
        assert (begun.step, begun.tokens.shared) == (1, 0), other
    _, run = new_run("the same", *TRUNK)
    assert train_here(run, stop_after=1, trunks=Trunks(store)).tokens.shared > 0


def test_the_deepest_state_is_taken_and_a_damaged_one_is_not(new_run: NewRun, store: TrunkStore) -> None:
    early = (*WSD, "schedule.decay_fraction=0.5")
    train_branch(new_run, store, "first", (*WSD, LATE), (*WSD, LATE, "schedule.floor=0.5"), early)
    assert [stored.info.step for stored in store.trunks()] == [7, 10]
    deepest = list(store.trunks())[-1]
    content = bytearray(deepest.checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    deepest.checkpoint.unlink()
    deepest.checkpoint.write_bytes(content)
    _, second = new_run("second", *WSD, LATE, "schedule.floor=0.5")
    result = train_here(second, trunks=Trunks(store))
    assert [stored.info.step for stored in store.trunks()] == [7]
    _, scratch = new_run("scratch", *WSD, LATE, "schedule.floor=0.5")
    whole = train_here(scratch)
    assert result.tokens.shared + result.tokens.trained == whole.tokens.trained
    assert_same_run(second, scratch)


def test_a_branch_that_was_stopped_goes_on_from_its_own_checkpoint(new_run: NewRun, store: TrunkStore) -> None:
    branch = (*WSD, LATE, "schedule.floor=0.5")
    train_branch(new_run, store, "first", (*WSD, LATE), branch)
    _, second = new_run("second", *branch)
    assert train_here(second, stop_after=11, trunks=Trunks(store)).step == 11
    result = train_here(second, trunks=Trunks(store))
    _, scratch = new_run("scratch", *branch)
    assert result.tokens.shared + result.tokens.trained == train_here(scratch).tokens.trained
    assert_same_run(second, scratch)


class Meanwhile(Callback):
    """Tries to train another run while the first one is at a step."""

    def __init__(self, step: int, run: RunDirectory, trunks: Trunks) -> None:
        self.step, self.run, self.trunks = step, run, trunks
        self.lease_lock: Path | None = None

    def on_before_zero_grad(self, trainer: Trainer, module: LightningModule, optimizer: torch.optim.Optimizer) -> None:
        if trainer.global_step + 1 == self.step:
            with pytest.raises(TrunkUnderWayError) as error:
                train_here(self.run, trunks=self.trunks)
            self.lease_lock = error.value.lease_lock
            assert is_held(self.lease_lock)


def test_a_trunk_under_way_is_waited_for(new_run: NewRun, store: TrunkStore) -> None:
    branch = (*WSD, LATE, "schedule.floor=0.5")
    relative, second = new_run("second", *branch)
    meanwhile = Meanwhile(3, second, Trunks(store))
    _, first = new_run("first", *WSD, LATE)
    train_here(first, trunks=Trunks(store, (relative,)), callbacks=[meanwhile])
    waited = read_result(second)
    assert (waited.state, waited.attempts, waited.waits_for) == ("waiting", 0, str(meanwhile.lease_lock))
    assert meanwhile.lease_lock is not None
    assert not is_held(meanwhile.lease_lock)
    result = train_here(second, trunks=Trunks(store))
    assert (result.state, result.attempts, result.waits_for) == ("complete", 1, None)
    assert result.tokens.shared > 0


def test_nobody_waits_for_what_will_not_be_stored(new_run: NewRun, store: TrunkStore) -> None:
    """The first run leaves nothing on its way: the second one may as well train from scratch at the same time."""
    _, second = new_run("second", *WSD, LATE, "schedule.floor=0.5")
    done: list[str] = []

    class Beside(Callback):
        def on_before_zero_grad(self, trainer: Trainer, module: LightningModule, optimizer: torch.optim.Optimizer) -> None:
            if trainer.global_step + 1 == 3:
                done.append(train_here(second, trunks=Trunks(store)).state)

    _, first = new_run("first", *WSD, LATE)
    train_here(first, trunks=Trunks(store), callbacks=[Beside()])
    assert done == ["complete"]


def test_what_is_still_to_be_trained_is_known_where_too_little_is_reserved(new_run: NewRun, store: TrunkStore) -> None:
    """The trunk that it was to go on from is gone, an earlier one is there: its study reserves the whole rest, not what it shares."""
    branch = (*WSD, LATE, "schedule.floor=0.5")
    train_branch(new_run, store, "first", (*WSD, LATE), branch)
    _, second = new_run("second", *branch)
    with pytest.raises(ReservedTooLittleError):
        train_here(second, trunks=Trunks(store, reserved_tokens=1))
    refused = read_result(second)
    done = train_here(second, trunks=Trunks(store))
    assert (refused.state, refused.attempts, refused.tokens.trained) == ("waiting", 0, 0)
    assert refused.tokens.length == done.tokens.length == done.tokens.shared + done.tokens.trained
    assert refused.tokens.position == refused.tokens.shared == done.tokens.shared > 0


def test_trunks_make_room_for_each_other_but_not_of_those_that_are_needed(tmp_path: Path) -> None:
    state = tmp_path / "state.ckpt"
    state.write_bytes(bytes(1000))
    store = TrunkStore(tmp_path / "trunks", disk_bytes=2500, needed=lambda: {"study/0001"})
    for step in (1, 2, 3, 4):
        info = TrunkInfo(step=step, tokens=step, run=f"study/{step:04d}")
        store.store(trunk_key(step, "0"), state, [], info)
        os.utime(store.directory / trunk_key(step, "0"), (step, step))
    assert [trunk.info.step for trunk in store.trunks()] == [1, 4]
    assert not [path for path in store.directory.iterdir() if path.name.startswith(".")]


def test_a_trunk_of_another_study_is_found(new_run: NewRun, store: TrunkStore, tmp_path: Path) -> None:
    branch = (*WSD, LATE, "schedule.floor=0.5")
    train_branch(new_run, store, "first", (*WSD, LATE), branch)
    _, second = new_run("second", *branch)
    other = TrunkStore(tmp_path / "elsewhere", neighbours=[store.directory])
    assert train_here(second, trunks=Trunks(other)).tokens.shared > 0


def test_a_damaged_trunk_of_another_study_is_passed_over_and_left_alone(new_run: NewRun, store: TrunkStore, tmp_path: Path) -> None:
    branch = (*WSD, LATE, "schedule.floor=0.5")
    train_branch(new_run, store, "first", (*WSD, LATE), branch)
    trunk = next(store.trunks())
    content = trunk.checkpoint.read_bytes()
    trunk.checkpoint.unlink()
    trunk.checkpoint.write_bytes(content[:-100])
    _, second = new_run("second", *branch)
    result = train_here(second, trunks=Trunks(TrunkStore(tmp_path / "elsewhere", neighbours=[store.directory])))
    assert (result.state, result.tokens.shared) == ("complete", 0)
    assert trunk.checkpoint.exists()


@pytest.mark.parametrize(
    "harm",
    [
        lambda trunk: trunk.checkpoint.unlink(),  # for its room, say: rm …/trunks/*/*.ckpt
        lambda trunk: (trunk.checkpoint.unlink(), os.mkfifo(trunk.checkpoint)),
        lambda trunk: trunk.metrics.write_text('{"step": 0}\n'),
        lambda trunk: (trunk.metrics.unlink(), os.mkfifo(trunk.metrics)),
    ],
    ids=["no checkpoint", "a pipe as checkpoint", "a row less", "a pipe as rows"],
)
def test_a_trunk_that_lacks_a_part_is_passed_over(harm: Callable[[Trunk], object], tmp_path: Path) -> None:
    state = tmp_path / "state.ckpt"
    torch.save({"state_dict": {}, "global_step": 1}, state)
    store = TrunkStore(tmp_path / "trunks")
    store.store(trunk_key(1, "0"), state, [{"step": 0}, {"step": 1}], TrunkInfo(step=1, tokens=1, run="first"))
    (trunk,) = store.trunks()
    assert trunk_problem(trunk) is None
    harm(trunk)
    assert trunk_problem(trunk) is not None


@pytest.mark.timeout(60)
def test_a_run_does_without_the_trunk_whose_checkpoint_was_deleted(new_run: NewRun, store: TrunkStore, tmp_path: Path) -> None:
    branch = (*WSD, LATE, "schedule.floor=0.5")
    train_branch(new_run, store, "first", (*WSD, LATE), branch)
    next(store.trunks()).checkpoint.unlink()
    _, second = new_run("second", *branch)
    result = train_here(second, stop_after=1, trunks=Trunks(TrunkStore(tmp_path / "elsewhere", neighbours=[store.directory])))
    assert (result.step, result.tokens.shared) == (1, 0)


def test_what_a_dead_process_left_half_stored_is_cleared_away(tmp_path: Path) -> None:
    state = tmp_path / "state.ckpt"
    state.write_bytes(bytes(10))
    store = TrunkStore(tmp_path / "trunks")
    old, young = store.directory / f".{trunk_key(1, '0')}.abc", store.directory / f".{trunk_key(2, '0')}.def"
    for path in (old, young):
        path.mkdir(parents=True)
    os.utime(old, (1, 1))
    store.store(trunk_key(3, "0"), state, [], TrunkInfo(step=3, tokens=3, run="first"))
    assert not old.exists()
    assert young.exists()
