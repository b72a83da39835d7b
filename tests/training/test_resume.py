"""A run that was stopped, killed or damaged ends with the same bits as one that was left alone."""

from __future__ import annotations

import pytest
import torch

from harness.models.checkpoint_files import checkpoints
from tests.training.conftest import NewRun
from tests.training.runs import EXACT_RESUME, assert_same_bits, assert_same_run, final_state, rows_without_speed, train_here

LORA = ("adapter=lora", "adapter.dropout=0.2", "optim.lr=1e-2")
ADAPTERS = {
    "none": ((), (1, 5, 11)),
    "dora": ((*LORA, "adapter.variant=dora"), (5,)),
    "pissa": ((*LORA, "adapter.variant=pissa"), (5,)),
    "lora, soft prompt, new tokens": ((*LORA, "adapter.tokens=3", "adapter.train_tokens=[a,b]", "tokenizer.new_tokens=['<|new|>']"), (5,)),
}
"""Overrides, and after which steps it is stopped."""


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_stopped_and_resumed(new_run: NewRun, adapter: str) -> None:
    overrides, stops = ADAPTERS[adapter]
    overrides = (*EXACT_RESUME, *overrides, "model.max_context=64")
    _, whole = new_run("whole", *overrides)
    train_here(whole)
    for stop_after in stops:
        _, parts = new_run(f"parts-{stop_after}", *overrides)
        stopped = train_here(parts, stop_after=stop_after)
        assert (stopped.state, stopped.step) == ("waiting", stop_after)
        done = train_here(parts)
        assert (done.state, done.step) == ("complete", 12)
        assert_same_run(whole, parts)


def test_stopped_again_and_again(new_run: NewRun) -> None:
    """Across epochs too: 32 rows of the target a step wear out its text within the run."""
    overrides = (*EXACT_RESUME, "trainer.batch_tokens=1024", "trainer.micro_batch_size=16")
    _, whole = new_run("whole", *overrides)
    train_here(whole)
    _, parts = new_run("parts", *overrides)
    for stop_after in (2, 3, 7, 11):
        assert train_here(parts, stop_after=stop_after).step == stop_after
    assert train_here(parts).step == 12
    assert_same_run(whole, parts)


@pytest.mark.parametrize("ends_first", [True, False])
def test_a_run_that_is_made_longer(new_run: NewRun, ends_first: bool) -> None:
    """Nothing of a state knows how long its run was to be: a constant rate can go on from any checkpoint, the last one as well."""
    constant = (*EXACT_RESUME, "schedule=constant", "schedule.warmup=2")
    _, whole = new_run("whole", *constant)
    train_here(whole)
    short = 6
    _, parts = new_run("parts", *constant, f"trainer.max_steps={short}")
    train_here(parts, stop_after=short if ends_first else 4)
    parts.config.write_text(parts.config.read_text().replace(f"max_steps: {short}", "max_steps: 12"))
    done = train_here(parts)
    assert (done.state, done.step) == ("complete", 12)
    assert done.tokens.trained == done.tokens.budgeted
    for row, same in zip(rows_without_speed(whole), rows_without_speed(parts), strict=True):
        # The end of the short run was evaluated too.
        assert row.items() <= same.items()
    assert_same_bits(final_state(whole)["state_dict"], final_state(parts)["state_dict"])


def test_a_checkpoint_of_an_older_harness_is_gone_on_from(new_run: NewRun) -> None:
    """It has the losses of step 0 by domain, and nothing else of them."""
    _, whole = new_run("whole", *EXACT_RESUME)
    train_here(whole)
    _, parts = new_run("parts", *EXACT_RESUME)
    train_here(parts, stop_after=5)
    state = final_state(parts)
    (kept,) = (part for part in state["callbacks"].values() if "initial" in part)
    kept["initial_loss"] = {key.removeprefix("data.validation."): values["loss"] for key, values in kept.pop("initial").items()}
    torch.save(state, checkpoints(parts.checkpoints)[5])
    assert train_here(parts).state == "complete"
    assert rows_without_speed(parts) == rows_without_speed(whole)
