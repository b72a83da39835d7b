"""A run that was stopped, killed or damaged ends with the same bits as one that was left alone."""

from __future__ import annotations

import pytest

from tests.training.conftest import NewRun
from tests.training.runs import EXACT_RESUME, assert_same_run, train_here


@pytest.mark.parametrize("stop_after", [1, 5, 11])
def test_stopped_and_resumed(new_run: NewRun, stop_after: int) -> None:
    _, whole = new_run("whole", *EXACT_RESUME)
    train_here(whole)
    _, parts = new_run("parts", *EXACT_RESUME)
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
