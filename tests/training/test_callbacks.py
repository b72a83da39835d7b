"""Callbacks that a configuration names: what they may be, and what a run is that one of them ends early."""

from __future__ import annotations

from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer

from harness.config.checks.trainer import CALLBACK_ARGUMENTS, CALLBACKS
from harness.config.errors import InputError
from harness.config.load import load
from harness.config.overrides import hydra_text
from harness.models.checkpoint_files import checkpoints
from harness.runs.exit_codes import DONE
from harness.runs.lifecycle import ending_of_process
from harness.runs.result import read_result
from harness.work.attempt import attempt
from harness.work.start_run import continue_run
from tests.training.conftest import NewRun
from tests.training.runs import assert_same_run, rows_without_speed, train_here

LENGTH = 12
EVALUATED = ("trainer.max_steps=12", "trainer.evaluate_every_steps=2", "trainer.log_every_steps=1")


def callback(name: str, **arguments: Any) -> str:
    return f"trainer.callbacks.it={hydra_text({'_target_': CALLBACKS + name, **arguments})}"


NEVER_BETTER = callback("EarlyStopping", monitor="val/domain/loss", patience=2, min_delta=1000.0)


@pytest.mark.parametrize("name", CALLBACK_ARGUMENTS)
def test_each_callback_that_may_be_named_works(name: str, new_run: NewRun) -> None:
    arguments = {"EarlyStopping": {"monitor": "val/domain/loss"}, "Timer": {"duration": "01:00:00:00"}}.get(name, {})
    _, run = new_run("run", "trainer.max_steps=2", callback(name, **arguments))
    assert train_here(run).state == "complete"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"name": "EarlyStopping", "monitor": "val/domain/los"},
            r"trainer\.callbacks\.it\.monitor: unknown metric.*Did you mean 'val/domain/loss'",
        ),
        ({"name": "Timer", "duration": "soon"}, r"trainer\.callbacks\.it: Timer does not take these arguments.*DD:HH:MM:SS"),
        ({"name": "EarlyStopping", "monitor": "lr", "mode": "less"}, r"trainer\.callbacks\.it: EarlyStopping does not take.*min, max"),
    ],
)
def test_arguments_that_cannot_be_used_end_before_the_data_are_looked_at(given: dict[str, Any], message: str, new_run: NewRun) -> None:
    _, run = new_run("run", callback(**given))
    with pytest.raises(InputError, match=message):
        train_here(run)
    assert read_result(run).fingerprints == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "EarlyStopping"}, r"trainer\.callbacks\.it\.monitor: required"),
        (
            {"name": "EarlyStopping", "monitor": "lr", "patients": 3},
            r"trainer\.callbacks\.it\.patients=3: no argument of EarlyStopping; valid: monitor",
        ),
        (
            {"name": "SpikeDetection", "exclude_batches_path": "victim.json"},
            r"trainer\.callbacks\.it\._target_=.*SpikeDetection: .*valid: DeviceStats",
        ),
        ({"name": "ModelCheckpoint", "dirpath": "/home/x"}, r"trainer\.callbacks\.it\._target_=.*ModelCheckpoint"),
    ],
)
def test_what_a_callback_does_not_take_is_refused_by_the_configuration(given: dict[str, Any], message: str, tiny: list[str]) -> None:
    with pytest.raises(InputError, match=message):
        load([*tiny, callback(**given)])


@pytest.mark.parametrize("micro_batch", [2, 4])
@pytest.mark.parametrize("final", ["full", "weights", "none"])
def test_a_run_that_a_callback_ends_is_evaluated_where_it_ends_and_is_not_complete(micro_batch: int, final: str, new_run: NewRun) -> None:
    early = (NEVER_BETTER, f"trainer.micro_batch_size={micro_batch}", f"trainer.final_checkpoint={final}")
    _, run = new_run("run", *EVALUATED, *early)
    assert attempt(run) == DONE
    result = read_result(run)
    assert (result.state, result.step) == ("pruned", 4)
    assert result.reason == "ended by trainer.callbacks.it at step 4 of 12"
    assert result.objective is None
    _, same = new_run("same", *EVALUATED, f"trainer.micro_batch_size={micro_batch}")
    train_here(same)
    there = {row["step"]: row for row in rows_without_speed(same)}
    assert rows_without_speed(run) == [there[step] for step in range(5)]
    assert result.metrics["val/domain/loss"] == there[4]["val/domain/loss"]
    assert result.tokens.trained == there[4]["tokens"]
    assert list(checkpoints(run.checkpoints)) == ([] if final == "none" else [4])
    # Nothing is left to do for it.
    again = continue_run(run)
    assert again is not None
    assert again.code == DONE
    assert read_result(run) == result
    assert ending_of_process(result, DONE, was_asked=False).state == "pruned"


def test_what_ends_it_between_two_evaluations_has_it_evaluated_there(new_run: NewRun) -> None:
    """Even in the middle of a step, as Timer may."""

    class Timer(Callback):
        def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
            trainer.should_stop = args[-1] == 4  # of four micro-batches a step: the first of the second step

    _, run = new_run("run", "trainer.max_steps=400", "trainer.micro_batch_size=1", "trainer.log_every_steps=3")
    result = train_here(run, callbacks=[Timer()])
    assert (result.state, result.step) == ("pruned", 1)
    last = run.metrics.rows()[-1]
    assert last["step"] == 1
    assert result.metrics["val/domain/loss"] == last["val/domain/loss"]
    assert result.tokens.position == last["tokens"]


def test_a_metric_of_training_can_end_it_too(new_run: NewRun) -> None:
    threshold = callback("EarlyStopping", monitor="train/loss", stopping_threshold=100.0)
    _, run = new_run("run", "trainer.max_steps=12", "trainer.log_every_steps=3", threshold)
    result = train_here(run)
    assert (result.state, result.step) == ("pruned", 3)
    rows = [row for row in run.metrics.rows() if row["step"] == 3]
    assert rows[-1]["train/loss"] > 0
    assert rows[-1]["val/domain/loss"] == result.metrics["val/domain/loss"]


def test_a_run_that_was_stopped_in_between_ends_where_it_would_have(new_run: NewRun) -> None:
    late = callback("EarlyStopping", monitor="val/domain/loss", patience=4, min_delta=1000.0)
    _, whole = new_run("whole", *EVALUATED, late)
    _, parts = new_run("parts", *EVALUATED, late)
    assert train_here(whole).step == 8
    assert train_here(parts, stop_after=4).state == "waiting"
    assert train_here(parts).state == "pruned"
    assert_same_run(whole, parts)
