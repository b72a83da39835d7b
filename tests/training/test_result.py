"""result.json through the life of a run, and metrics.jsonl beside it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from harness.config.errors import InputError
from harness.models.checkpoint_files import checkpoints
from harness.runs.directory import RunDirectory
from harness.runs.exit_codes import FAILED
from harness.runs.result import Result, read_result, write_result
from harness.training.checkpoints import AtomicCheckpointIO
from harness.training.run_errors import NonFiniteLossError
from harness.training.stop_flag import StopFlag
from harness.work.attempt import attempt
from tests.training.conftest import NewRun
from tests.training.runs import train_here, train_with


class Watch(Callback):
    """What result.json says while it trains."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.seen: list[Result] = []

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.seen.append(read_result(self.run))


class Break(Callback):
    """Does something bad in the middle of a step."""

    def __init__(self, step: int, what: Any) -> None:
        self.step, self.what = step, what

    def on_before_zero_grad(self, trainer: Trainer, module: LightningModule, optimizer: torch.optim.Optimizer) -> None:
        if trainer.global_step + 1 == self.step:
            self.what(module)


def poison_gradient(module: LightningModule) -> None:
    next(module.parameters()).register_hook(lambda gradient: gradient * float("nan"))


def poison_weight(module: LightningModule) -> None:
    """Of the embeddings, whose gradient is the last: loss and gradients are still finite."""

    def poison(weight: torch.Tensor) -> None:
        weight.data.fill_(float("nan"))

    next(module.parameters()).register_post_accumulate_grad_hook(poison)


def crash(module: LightningModule) -> None:
    raise ValueError("a bug")


def tokens_by_step(run: RunDirectory) -> dict[int, int]:
    return {row["step"]: row["tokens"] for row in run.metrics.rows()}


def test_from_start_to_end(new_run: NewRun) -> None:
    config, run = new_run("run", "trainer.max_steps=6", "trainer.evaluate_every_steps=2")
    watch = Watch(run)
    stopped = train_here(run, stop_after=4, callbacks=[watch])
    at = tokens_by_step(run)
    assert (watch.seen[0].state, watch.seen[0].attempts, watch.seen[0].tokens.position) == ("running", 1, 0)
    assert stopped == read_result(run)
    assert (stopped.state, stopped.reason, stopped.step, stopped.attempts) == ("waiting", "stopped", 4, 1)
    assert (stopped.tokens.trained, stopped.tokens.position) == (at[4], at[4])
    first_seconds = stopped.seconds
    assert first_seconds > 0

    watch = Watch(run)
    done = train_here(run, callbacks=[watch])
    at = tokens_by_step(run)
    assert list(at) == [0, 1, 2, 3, 4, 5, 6]
    assert (watch.seen[0].state, watch.seen[0].attempts, watch.seen[0].tokens.position) == ("running", 2, at[4])
    assert watch.seen[0].step == 4
    assert done == read_result(run)
    assert (done.state, done.reason, done.step, done.attempts, done.failures) == ("complete", None, 6, 2, 0)
    assert (done.tokens.trained, done.tokens.budgeted, done.tokens.position, done.tokens.shared) == (at[6], at[6], at[6], 0)
    assert done.seconds > first_seconds
    last = run.metrics.rows()[-1]
    assert done.metrics == {name: value for name, value in last.items() if name not in ("step", "tokens")}
    files = {f"data.{kind}.{name}" for kind in ("sources", "validation") for name in ("domain", "general")}
    assert set(done.fingerprints) == {"data", "tokenizer", "model", *files}
    assert done.versions["torch"] == torch.__version__
    assert config.seed == 0


def test_asked_to_stop_before_its_first_step(new_run: NewRun) -> None:
    _, run = new_run("run")
    stop = StopFlag()
    stop.is_set = True
    stopped = train_with(run, stop=stop)
    assert (stopped.state, stopped.step, stopped.tokens.trained, stopped.tokens.position) == ("waiting", 0, 0, 0)
    assert run.metrics.rows() == []
    done = train_here(run)
    assert (done.state, done.attempts) == ("complete", 2)


def test_asked_to_stop_while_resuming(new_run: NewRun) -> None:
    _, run = new_run("run")
    train_here(run, stop_after=2)
    stop = StopFlag()
    stop.is_set = True
    stopped = train_with(run, stop=stop)
    assert (stopped.state, stopped.step, stopped.tokens.trained) == ("waiting", 2, tokens_by_step(run)[2])
    assert stopped.metrics == {k: v for k, v in {**run.metrics.rows()[0], **run.metrics.rows()[2]}.items() if k not in ("step", "tokens")}
    assert train_here(run).tokens.trained == tokens_by_step(run)[4]


def test_asked_to_stop_in_its_last_step(new_run: NewRun) -> None:
    _, run = new_run("run")
    assert train_here(run, stop_after=4).state == "complete"


def test_died_without_a_word(new_run: NewRun) -> None:
    """What a killed process leaves: result.json as it was when training began, rows up to some step, a checkpoint."""
    config, run = new_run("run", "trainer.max_steps=8", "trainer.checkpoint_every_steps=3", "trainer.log_every_steps=2")
    watch = Watch(run)
    with pytest.raises(ValueError, match="a bug"):
        train_here(run, callbacks=[watch, Break(6, crash)])
    write_result(run, watch.seen[0])
    done = train_here(run)
    at = tokens_by_step(run)
    # Its rows end at step 4: it may have trained all but the end of the next two steps. It goes on from the checkpoint of step 3.
    _, whole = new_run("whole", "trainer.max_steps=8", "trainer.log_every_steps=1")
    train_here(whole)
    exact = tokens_by_step(whole)
    assert done.tokens.trained == at[4] + 2 * config.trainer.batch_tokens + at[8] - exact[3]
    assert done.tokens.length == at[8]
    assert (done.state, done.failures, done.attempts) == ("complete", 1, 2)


def test_a_crash_is_reported_by_the_attempt_itself(new_run: NewRun) -> None:
    """So the next attempt does not count its tokens a second time."""
    _, run = new_run("run", "trainer.checkpoint_every_steps=1")
    with pytest.raises(ValueError, match="a bug"):
        train_here(run, callbacks=[Break(3, crash)])
    failed = read_result(run)
    at = tokens_by_step(run)
    assert (failed.state, failed.reason, failed.step, failed.failures) == ("failed", "ValueError: a bug", 2, 1)
    assert (failed.tokens.trained, failed.tokens.position) == (at[2], at[2])
    done = train_here(run)
    assert (done.tokens.trained, done.attempts, done.failures) == (tokens_by_step(run)[4], 2, 1)


def test_a_checkpoint_that_cannot_be_restored_takes_nothing_back(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the budget of its study would grow."""
    _, run = new_run("run")
    stopped = train_here(run, stop_after=2)

    def unreadable(*given: Any, **more: Any) -> None:
        raise OSError("the file system is gone")

    monkeypatch.setattr(AtomicCheckpointIO, "load_checkpoint", unreadable)
    with pytest.raises(OSError, match="the file system is gone"):
        train_here(run)
    broken = read_result(run)
    assert (broken.step, broken.tokens, broken.metrics) == (2, stopped.tokens, stopped.metrics)


@pytest.mark.parametrize("every", [1, 100])
@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            poison_gradient,
            r"^the gradient norm of step 2 is nan \(learning rate .*\); its batch: rows 5 to 8 of the run, data\.sources\.domain ",
        ),
        (poison_weight, r"^step 2 made weights that are not finite \(learning rate .*\)$"),
    ],
)
def test_a_step_that_is_not_finite(new_run: NewRun, every: int, what: Any, message: str) -> None:
    _, run = new_run("run", f"trainer.log_every_steps={every}", "trainer.checkpoint_every_steps=1")
    with pytest.raises(NonFiniteLossError, match=message):
        train_here(run, callbacks=[Break(2, what)])
    failed = read_result(run)
    assert (failed.state, failed.step) == ("failed", 2)
    assert list(checkpoints(run.checkpoints)) == [1]
    assert failed.tokens.trained > failed.tokens.position > 0


def test_a_loss_that_is_not_finite_through_an_attempt(new_run: NewRun) -> None:
    _, run = new_run("run", "optim.lr=1e30", "optim.gradient_clip_norm=null", "schedule=constant", "schedule.warmup=0")
    assert attempt(run) == FAILED
    failed = read_result(run)
    assert failed.state == "failed"
    assert failed.reason is not None
    assert re.match(
        rf"the (loss|gradient norm) of step {failed.step} is (nan|inf) \(learning rate 1e\+30\); its batch: rows ", failed.reason
    )
    assert (failed.step in (2, 3), failed.attempts) == (True, 1)
    assert failed.tokens.trained > 0
    assert list(checkpoints(run.checkpoints)) == []
    assert "NaN" not in run.metrics.path.read_text()


def test_an_evaluation_that_is_not_finite_is_no_result(new_run: NewRun) -> None:
    """The last update can break the weights when no checkpoint is due: the losses of step 0 must not pass for the run's."""
    _, run = new_run("run", "trainer.final_checkpoint=none")
    with pytest.raises(NonFiniteLossError, match=r"^val/domain/loss after step 4 is nan"):
        train_here(run, callbacks=[Break(4, poison_weight)])
    assert read_result(run).state == "failed"


def test_other_data_or_another_model_is_refused(new_run: NewRun) -> None:
    _, run = new_run("run")
    train_here(run, stop_after=2)
    before = run.config.read_text()
    for old, new, what in (("replay_share: 0.25", "replay_share: 0.5", "data"), ("layers: 2", "layers: 1", "model")):
        run.config.write_text(before.replace(old, new))
        with pytest.raises(InputError, match=f"the {what} changed since this run began"):
            train_here(run)
    run.config.write_text(before)
    assert train_here(run).state == "complete"
