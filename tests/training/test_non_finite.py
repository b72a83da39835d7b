"""Steps whose loss or gradients are not finite."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from harness.config.load import load_file
from harness.models.checkpoint_files import checkpoints
from harness.models.tokenizer import load_tokenizer
from harness.runs.result import read_result
from harness.training.module import TrainingModule
from harness.training.run_errors import NonFiniteLossError
from tests.support.datasets import training_data
from tests.training.conftest import NewRun
from tests.training.runs import EXACT_RESUME, assert_same_bits, assert_same_run, final_state, train_here


class Poison(Callback):
    """Makes the gradients of some steps (1-based), or their losses, NaN in one micro-batch."""

    def __init__(self, *steps: int, micro_batch: int = 0, loss: bool = False) -> None:
        self.steps, self.micro_batch, self.loss = steps, micro_batch, loss
        self.batches: dict[int, dict[str, Any]] = {}
        """Weights and optimizer before each step."""

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, batch_index: int) -> None:
        assert isinstance(module, TrainingModule)
        micro_batch = batch_index % module.plan.accumulation
        if micro_batch == 0:
            state = {"weights": module.state_dict(), "optimizer": trainer.optimizers[0].state_dict()["state"]}
            self.batches[trainer.global_step + 1] = _copied(state)
        if trainer.global_step + 1 not in self.steps or micro_batch != self.micro_batch:
            return
        weight = next(module.parameters())
        if self.loss:
            original = module.objective.loss_sum

            def broken(model: Any, batch: Any) -> torch.Tensor:
                module.objective.loss_sum = original  # type: ignore[method-assign]
                return original(model, batch) * float("inf")

            module.objective.loss_sum = broken  # type: ignore[method-assign]
        else:
            handle = weight.register_hook(lambda gradient: (handle.remove(), gradient * float("nan"))[1])


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return value.clone() if isinstance(value, torch.Tensor) else value


SKIP = (*EXACT_RESUME, "trainer.non_finite=skip")


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "schedule_free"])
@pytest.mark.parametrize("loss", [False, True])
def test_a_skipped_step_changes_neither_weights_nor_optimizer(new_run: NewRun, caplog: Any, optimizer: str, loss: bool) -> None:
    """In its first of two micro-batches: the second is no update by itself."""
    _, run = new_run("run", *SKIP, f"optim={optimizer}")
    poison = Poison(4, 7, 8, loss=loss)
    with caplog.at_level(logging.WARNING):
        done = train_here(run, callbacks=[poison])
    assert (done.state, done.step) == ("complete", 12)
    for step in (4, 7, 8):
        assert_same_bits(poison.batches[step], poison.batches[step + 1], f"step {step}")
    with pytest.raises(AssertionError):
        assert_same_bits(poison.batches[5], poison.batches[6])
    rows = {row["step"]: row for row in run.metrics.rows()}
    assert [rows[step]["train/skipped_steps"] for step in (3, 4, 6, 7, 12)] == [0, 1, 1, 2, 3]
    assert done.metrics["train/skipped_steps"] == 3
    # The data goes on, and so does the schedule.
    assert rows[4]["tokens"] < rows[5]["tokens"]
    assert len(re.findall(r"step \d+ is (?:nan|inf): skipped; its batch: rows", caplog.text)) == 3


def test_a_run_that_skipped_resumes_to_the_same_bits(new_run: NewRun) -> None:
    overrides = (*SKIP, "optim.ema_decay=0.5", "trainer.max_skipped_steps=2")
    _, whole = new_run("whole", *overrides)
    train_here(whole, callbacks=[Poison(3, 4)])
    _, parts = new_run("parts", *overrides)
    for stop_after in (3, 6):
        train_here(parts, stop_after=stop_after, callbacks=[Poison(3, 4)])
    train_here(parts)
    assert_same_run(whole, parts)
    assert final_state(parts)["non_finite"]["skipped_steps"] == 2


def test_too_many_in_a_row_stop_the_run_even_if_it_was_resumed_among_them(new_run: NewRun) -> None:
    _, run = new_run("run", *SKIP, "trainer.max_skipped_steps=2")
    train_here(run, stop_after=4, callbacks=[Poison(2, 4)])
    message = (
        r"gradient norm of step 6 is nan; 2 steps in a row were skipped already \(trainer.max_skipped_steps\); its batch: rows 21 to 24"
    )
    with pytest.raises(NonFiniteLossError, match=message):
        train_here(run, callbacks=[Poison(5, 6)])


def test_a_run_that_hardly_trained_is_not_complete(new_run: NewRun) -> None:
    """Weights that the first step broke, in a run too short for max_skipped_steps in a row."""
    _, half = new_run("half", *SKIP)
    assert train_here(half, callbacks=[Poison(2, 3, 4, 6, 7, 8)]).state == "complete"
    _, run = new_run("run", *SKIP)
    with pytest.raises(NonFiniteLossError, match=r"^7 of the run's 12 steps were skipped, more than half: .* \(learning rate .*\)$"):
        train_here(run, callbacks=[Poison(2, 3, 4, 6, 7, 8, 10)])
    assert read_result(run).state == "failed"
    assert list(checkpoints(run.checkpoints)) == []


def test_the_message_names_the_documents_of_the_batch(new_run: NewRun) -> None:
    config, run = new_run("run", *EXACT_RESUME)
    with pytest.raises(NonFiniteLossError) as caught:
        train_here(run, callbacks=[Poison(3, micro_batch=1, loss=True)])
    data = training_data(config.data, load_tokenizer(load_file(run.config)), seed=config.seed)
    expected = []
    for name, documents in data.documents_at(8, 12).items():
        assert 0 < len(documents) <= 8
        expected.append(f"data.sources.{name} documents " + ", ".join(str(document + 1) for document in documents))
    start = r"the loss of step 3 is inf \(learning rate [0-9.e-]+\); its batch: rows 9 to 12 of the run, "
    assert re.fullmatch(start + re.escape("; ".join(expected)), str(caught.value))


def test_the_documents_at_a_position_are_those_whose_tokens_are_there(new_run: NewRun) -> None:
    from harness.data.dataset import PackedRows

    config, run = new_run("run")
    data = training_data(config.data, load_tokenizer(load_file(run.config)), seed=config.seed)
    for position in range(12):
        row = PackedRows(data)[position]["input_ids"].tolist()
        ((name, documents),) = data.documents_at(position, position + 1).items()
        source = next(source for source in data.sources if source.name == name)
        for document in documents.tolist():
            tokens = source.documents.tokens[source.documents.offsets[document] : source.documents.offsets[document + 1]].tolist()
            assert " ".join(map(str, tokens[:8])) in " ".join(map(str, row)) or len(tokens) > len(row)
