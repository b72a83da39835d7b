"""A step is what a bare PyTorch loop would do, however its rows are divided."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F

from harness.config.schema import Config
from harness.data.dataset import PackedRows
from harness.models.language_model import build_model
from harness.models.tokenizer import load_tokenizer
from harness.schedule.learning_rate import learning_rate
from harness.training.plan import build_plan
from tests.support.datasets import training_data
from tests.training.conftest import NewRun
from tests.training.runs import assert_same_bits, final_state, rows_without_speed, train_here


def bare_loop(config: Config) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The same training in plain PyTorch: weights at the end, and the loss of each step."""
    tokenizer = load_tokenizer(config)
    data = training_data(config.data, tokenizer, seed=config.seed)
    plan = build_plan(config, data)
    model = build_model(config.model, tokenizer, seed=config.seed)
    matrices = [p for name, p in model.named_parameters() if "proj" in name]
    others = [p for name, p in model.named_parameters() if "proj" not in name]
    groups = [{"params": matrices, "weight_decay": config.optim.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=config.optim.betas, eps=config.optim.eps, fused=True)
    rows = PackedRows(data)
    torch.manual_seed(config.seed)  # for dropout
    losses = []
    for step in range(plan.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(plan.schedule, step)
        batch = rows.__getitems__(list(range(step * plan.batch_size.full, (step + 1) * plan.batch_size.full)))
        logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
        # The mean over the tokens that have a label.
        labels = batch["labels"].flatten()
        loss = F.cross_entropy(logits.flatten(0, 1), labels, ignore_index=-100, reduction="sum") * (1.0 / int((labels != -100).sum()))
        optimizer.zero_grad()
        loss.backward()
        if config.optim.gradient_clip_norm is not None:
            torch.nn.utils.clip_grad_norm_([*matrices, *others], config.optim.gradient_clip_norm)
        optimizer.step()
        losses.append(loss.item())
    return dict(model.state_dict()), losses


@pytest.mark.parametrize("packing", ["best_fit", "concat", "padded"])
def test_the_run_of_a_bare_loop(new_run: NewRun, packing: str) -> None:
    overrides = [f"data.packing={packing}", "model.attention_dropout=0.1", "optim.lr=1e-2", "optim.weight_decay=0.5"]
    config, run = new_run("run", *overrides, "trainer.max_steps=8", "schedule=wsd", "optim.gradient_clip_norm=0.5")
    train_here(run)
    weights, losses = bare_loop(config)
    assert_same_bits({name.removeprefix("model."): value for name, value in final_state(run)["state_dict"].items()}, weights)
    logged = [row["train/loss"] for row in run.metrics.rows() if row["step"] > 0]
    assert logged == pytest.approx(losses, rel=1e-6)


def test_neither_loss_nor_weights_depend_on_the_micro_batches(new_run: NewRun) -> None:
    """To float tolerance: sums of the same terms in another order; Adam divides by a root, which enlarges what is near zero."""
    runs = {}
    for size in (8, 4, 1):
        _, run = new_run(f"of-{size}", f"trainer.micro_batch_size={size}", "trainer.batch_tokens=256", "trainer.max_steps=6")
        train_here(run)
        runs[size] = run
    for size in (4, 1):
        one, other = rows_without_speed(runs[8]), rows_without_speed(runs[size])
        for a, b in zip(one, other, strict=True):
            assert a == pytest.approx(b, rel=1e-5, abs=1e-6)
        for (name, a), b in zip(final_state(runs[8])["state_dict"].items(), final_state(runs[size])["state_dict"].values(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_rows_of_unequal_length_weigh_by_their_tokens(new_run: NewRun) -> None:
    """With padded rows micro-batches differ much in their tokens: a mean of means would be off by more than any rounding."""
    losses = []
    for size in (4, 1):
        _, run = new_run(f"of-{size}", f"trainer.micro_batch_size={size}", "data.packing=padded", "trainer.max_steps=1")
        train_here(run)
        losses.append(run.metrics.rows()[1]["train/loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(new_run: NewRun) -> None:
    states = []
    for number, seed in enumerate((3, 3, 4)):
        _, run = new_run(f"run-{number}", f"seed={seed}", "model.attention_dropout=0.1")
        # What was drawn before must not matter.
        random.seed(number)
        torch.manual_seed(number)
        train_here(run)
        states.append(final_state(run))
    assert_same_bits(states[0]["state_dict"], states[1]["state_dict"])
    assert_same_bits(states[0]["callbacks"], states[1]["callbacks"])
    with pytest.raises(AssertionError):
        assert_same_bits(states[0]["state_dict"], states[2]["state_dict"])


def test_how_often_it_logs_evaluates_and_saves_changes_nothing(new_run: NewRun) -> None:
    dropout = "model.attention_dropout=0.2"
    _, busy = new_run("busy", dropout, "trainer.evaluate_every_steps=1", "trainer.checkpoint_every_steps=1")
    _, calm = new_run("calm", dropout, "trainer.log_every_steps=100")
    train_here(busy)
    train_here(calm)
    for part in ("state_dict", "optimizer_states"):
        assert_same_bits(final_state(busy)[part], final_state(calm)[part])
    assert [row["step"] for row in calm.metrics.rows()] == [0, 4]


@pytest.mark.parametrize("size", [4, 1])
def test_the_gradient_norm_is_that_of_the_whole_step_before_clipping(new_run: NewRun, size: int) -> None:
    """And what is clipped is the sum over the micro-batches, once."""
    config, run = new_run("run", f"trainer.micro_batch_size={size}", "trainer.max_steps=1", "optim.gradient_clip_norm=1e-2")
    train_here(run)
    tokenizer = load_tokenizer(config)
    data = training_data(config.data, tokenizer, seed=config.seed)
    model = build_model(config.model, tokenizer, seed=config.seed)
    batch = PackedRows(data).__getitems__([0, 1, 2, 3])
    logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
    F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=-100).backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]).item()
    assert run.metrics.rows()[-1]["train/gradient_norm"] == pytest.approx(norm, rel=1e-5)
    # After one step Adam's momentum is a tenth of the gradient that it was given.
    moments = [state["exp_avg"] for state in final_state(run)["optimizer_states"][0]["state"].values()]
    assert torch.nn.utils.get_total_norm(moments).item() == pytest.approx(0.1 * 1e-2, rel=1e-4)


@pytest.mark.parametrize(
    ("others", "shorter"), [((), "epochs"), (("trainer.max_tokens=1e6",), "epochs"), (("trainer.max_steps=2",), "steps")]
)
def test_a_length_in_epochs(new_run: NewRun, others: tuple[str, ...], shorter: str) -> None:
    """Alone, or beside another length: what ends first counts."""
    config, _ = new_run("run", "trainer.max_steps=null", "trainer.max_epochs=1.5", *others)
    plan = build_plan(config, training_data(config.data, load_tokenizer(config), seed=config.seed))
    assert plan.steps == (2 if shorter == "steps" else plan.data.steps_within(1.5, plan.batch_size))
    assert (1.0 < plan.data.order.epochs(plan.rows)["domain"] <= 1.5) is (shorter == "epochs")
