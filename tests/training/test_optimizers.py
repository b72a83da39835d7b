"""Optimizers and averages through whole runs: resumed to the same bits; what is averaged is what is evaluated, kept and exported."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from transformers import AutoModelForCausalLM

from harness.config.load import load_file
from harness.models.tokenizer import load_tokenizer
from harness.optim.averages import in_place_of_weights
from harness.training.export import export
from harness.training.module import TrainingModule
from tests.support.datasets import domain_set, measure
from tests.training.conftest import NewRun
from tests.training.runs import EXACT_RESUME, assert_same_run, final_state, rows_without_speed, train_here

SCHEDULE_FREE = ("optim=schedule_free", "optim.lr=1e-2")
EMA = ("optim.ema_decay=0.7", "optim.lr=1e-2")
KINDS = {
    "muon": ("optim=muon", "optim.adamw_lr_ratio=0.5"),
    "soap": ("optim=soap", "optim.precondition_every_steps=3"),
    "lion": ("optim=lion",),
    "schedule_free": SCHEDULE_FREE,
    "ema": EMA,
}


@pytest.mark.parametrize("kind", KINDS)
def test_resumed_to_the_same_bits(new_run: NewRun, kind: str) -> None:
    """Stopped where it evaluates as well, and elsewhere."""
    _, whole = new_run("whole", *EXACT_RESUME, *KINDS[kind])
    train_here(whole)
    _, parts = new_run("parts", *EXACT_RESUME, *KINDS[kind])
    for stop_after in (5, 7):
        assert train_here(parts, stop_after=stop_after).step == stop_after
    assert train_here(parts).state == "complete"
    assert_same_run(whole, parts)


@pytest.mark.parametrize("kind", ["schedule_free", "ema"])
def test_how_often_it_is_evaluated_changes_nothing(new_run: NewRun, kind: str) -> None:
    """Weights give way to their average and come back with the same bits."""
    _, often = new_run("often", "trainer.evaluate_every_steps=1", *KINDS[kind])
    _, seldom = new_run("seldom", *KINDS[kind])
    train_here(often)
    train_here(seldom)
    for part in ("state_dict", "training_weights"):
        a, b = final_state(often)[part], final_state(seldom)[part]
        assert all(torch.equal(a[name], b[name]) for name in a), part


class Averages(Callback):
    """Averages the weights after every step by itself."""

    def __init__(self) -> None:
        self.average: dict[str, torch.Tensor] = {}

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.average = {name: weight.detach().clone() for name, weight in module.named_parameters()}

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: object, batch: object, batch_index: int) -> None:
        assert isinstance(module, TrainingModule)
        if (batch_index + 1) % module.plan.accumulation == 0:
            decay = min(0.7, (1 + trainer.global_step) / (10 + trainer.global_step))
            for name, weight in module.named_parameters():
                self.average[name] = decay * self.average[name] + (1 - decay) * weight.detach()


def test_the_exponential_average_is_that_of_the_weights_after_every_step(new_run: NewRun) -> None:
    _, run = new_run("run", *EMA, "trainer.micro_batch_size=2", "trainer.max_steps=8")
    by_hand = Averages()
    train_here(run, callbacks=[by_hand])
    kept = final_state(run)
    for name, average in by_hand.average.items():
        torch.testing.assert_close(kept["state_dict"][name], average, rtol=1e-5, atol=1e-7)
        assert not torch.equal(kept["training_weights"][name], average)


@pytest.mark.parametrize("kind", ["schedule_free", "ema"])
@pytest.mark.parametrize("final", ["full", "weights"])
def test_the_average_is_what_is_evaluated_kept_and_exported(new_run: NewRun, tmp_path: Path, kind: str, final: str) -> None:
    config, run = new_run("run", *KINDS[kind], f"trainer.final_checkpoint={final}", "trainer.max_steps=8", "optim.weight_decay=0")
    train_here(run)
    export(run, tmp_path / "out")
    assert "average" in (tmp_path / "out" / "README.md").read_text()
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    validation = domain_set(config.data, load_tokenizer(load_file(run.config)), "domain")
    logged = run.metrics.rows()[-1]["val/domain/loss"]
    assert measure(model, validation, batch_tokens=512)["loss"] == pytest.approx(logged, rel=1e-5)
    assert ("training_weights" in final_state(run)) is (final == "full")
    if final == "full":
        weights = {name.removeprefix("model."): weight for name, weight in final_state(run)["training_weights"].items()}
        with in_place_of_weights({parameter: weights[name] for name, parameter in model.named_parameters()}):
            assert measure(model, validation, batch_tokens=512)["loss"] != pytest.approx(logged, rel=1e-4)


def test_without_an_average_only_the_average_is_missing(new_run: NewRun) -> None:
    """Training itself is the same."""
    _, plain = new_run("plain", "optim.lr=1e-2")
    _, averaged = new_run("averaged", *EMA)
    train_here(plain)
    train_here(averaged)
    a, b = final_state(plain)["state_dict"], final_state(averaged)["training_weights"]
    assert all(torch.equal(a[name], b[name]) for name in a)
    losses = [[row["train/loss"] for row in rows_without_speed(run)[1:]] for run in (plain, averaged)]
    assert losses[0] == losses[1]
