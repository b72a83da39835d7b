"""Fixed sets, unpacked: the same losses whatever the training does, and by hand."""

from __future__ import annotations

import itertools
import json
import logging
import math
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from harness.config.load import load
from harness.config.schema import DataConfig, MultipleChoiceConfig
from harness.evaluation.domain_loss import DomainLossSet
from harness.evaluation.evaluation_set import Measured
from harness.evaluation.kinds import logged_metrics
from harness.evaluation.loss_by_position import LossByPositionSet
from harness.evaluation.multiple_choice import MultipleChoiceSet
from harness.training.evaluator import Evaluator
from harness.training.stop_flag import StopFlag
from tests.support.corpus import TinyText
from tests.support.datasets import evaluation_sets, measure
from tests.training.conftest import NewRun
from tests.training.runs import rows_without_speed, train_here, train_with

VALUES = ("loss", "bits_per_byte", "forgetting")


class Uniform(torch.nn.Module):
    """Says that all of four tokens are as likely, but for token 3, which it gives half."""

    device = torch.device("cpu")

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        assert not use_cache
        assert not self.training
        probabilities = torch.tensor([1 / 6, 1 / 6, 1 / 6, 1 / 2])
        return SimpleNamespace(logits=probabilities.log().expand(*input_ids.shape, 4))


@pytest.mark.parametrize("batch_tokens", [1, 4, 1000])
def test_by_hand(batch_tokens: int) -> None:
    validation = DomainLossSet(
        name="toy",
        tokens=np.array([0, 3, 3, 1, 2, 0, 3], dtype=np.uint16),
        lengths=np.array([5, 2]),  # predicted: 3 3 1 2, and 3
        hashes=np.zeros(2, dtype=np.uint64),
        bytes=10,
        context_length=2,
    )
    nats = 3 * math.log(2) + 2 * math.log(6)
    model = Uniform()
    found = measure(model, validation, batch_tokens=batch_tokens)
    assert found["loss"] == pytest.approx(nats / 5, rel=1e-6)
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / 10, rel=1e-6)
    assert model.training


def test_neither_packing_nor_batches_matter(new_run: NewRun) -> None:
    first_rows = []
    variants = ("data.packing=best_fit", "data.packing=concat", "data.packing=padded", "trainer.evaluation_batch_tokens=32")
    for number, override in enumerate(variants):
        # Rows of different packings have different tokens: with no rate to speak of, the losses at the end must agree as well.
        _, run = new_run(f"run-{number}", override, "optim.lr=1e-12", "trainer.max_steps=1")
        train_here(run)
        rows = rows_without_speed(run)
        first_rows.append(rows[0])
        assert rows[1]["val/domain/loss"] == pytest.approx(first_rows[0]["val/domain/loss"], rel=1e-6)
    for row in first_rows[1:3]:
        assert row == first_rows[0]
    assert first_rows[3] == pytest.approx(first_rows[0], rel=1e-6, abs=1e-9)


def test_forgetting_is_the_rise_since_step_0(new_run: NewRun) -> None:
    _, run = new_run("run", "trainer.max_steps=6", "trainer.evaluate_every_steps=2", "trainer.log_every_steps=100", "optim.lr=1e-2")
    train_here(run, stop_after=4)
    train_here(run)
    rows = run.metrics.rows()
    assert [row["step"] for row in rows] == [0, 2, 4, 6]
    for domain in ("domain", "general"):
        start = rows[0][f"val/{domain}/loss"]
        assert rows[0][f"val/{domain}/forgetting"] == 0.0
        for row in rows:
            assert row[f"val/{domain}/forgetting"] == row[f"val/{domain}/loss"] - start
        assert rows[-1][f"val/{domain}/loss"] < start - 0.05
        ratios = {row[f"val/{domain}/bits_per_byte"] / row[f"val/{domain}/loss"] for row in rows}
        assert max(ratios) == pytest.approx(min(ratios), rel=1e-12)


def test_step_0_and_the_end_are_always_evaluated(new_run: NewRun) -> None:
    _, run = new_run("run", "trainer.log_every_steps=100", "trainer.max_steps=3")
    train_here(run)
    rows = run.metrics.rows()
    assert [row["step"] for row in rows] == [0, 3]
    for row in rows:
        assert all(f"val/{domain}/{value}" in row for domain in ("domain", "general") for value in VALUES)


def test_the_loss_by_position_adds_up_to_the_loss() -> None:
    lengths = np.array([200, 130, 2, 70])
    validation = LossByPositionSet(
        name="toy",
        tokens=np.random.default_rng(0).integers(0, 4, int(lengths.sum())),
        lengths=lengths,
        hashes=np.zeros(4, dtype=np.uint64),
        bytes=10,
        context_length=150,
    )
    found = measure(Uniform(), validation, batch_tokens=300)
    # Windows of 150, 49, 129, 1 and 69 predictions.
    tokens = {"tokens_0_63": 64 + 49 + 64 + 1 + 64, "tokens_64_127": 64 + 64 + 5, "tokens_128_255": 22 + 1}
    assert {name.removeprefix("loss/") for name in found if name.startswith("loss/")} == tokens.keys()
    nats = math.fsum(found[f"loss/{name}"] * count for name, count in tokens.items())
    assert nats / validation.predicted_tokens == pytest.approx(found["loss"], rel=1e-15)
    first = validation.tokens[np.r_[1:65, 151:200, 201:265, 331, 333:397]]
    by_hand = np.where(first == 3, math.log(2), math.log(6)).mean()
    assert found["loss/tokens_0_63"] == pytest.approx(by_hand, rel=1e-6)


def test_choices_by_hand() -> None:
    """Choices of one to three tokens, each token 1/6 or (token 3) 1/2."""
    sequences = [[0, 1, 3], [0, 1, 1], [0, 2, 3, 3], [0, 2, 1], [0, 2, 3]]
    choices = MultipleChoiceSet(
        name="toy",
        tokens=np.concatenate([np.array(ids) for ids in sequences]),
        lengths=np.array([len(ids) for ids in sequences]),
        scored=np.array([1, 1, 2, 1, 1]),
        choice_bytes=np.array([4, 1, 2, 1, 9]),
        first_choice=np.array([0, 2, 5]),
        answers=np.array([0, 4]),  # ln 2 beats ln 6; 2 ln 2 and ln 6 lose to ln 2
        truncated=0,
        left_out=0,
    )
    for batch_tokens in (1, 1000):
        found = measure(Uniform(), choices, batch_tokens=batch_tokens)
        assert (found["accuracy"], found["accuracy_per_byte"]) == (1.0, 1.0)
        assert found["answer_bits_per_byte"] == pytest.approx(2 / 13, rel=1e-6)
    long = replace(choices, choice_bytes=np.array([1, 9, 90, 1, 9]))
    found = measure(Uniform(), long, batch_tokens=1000)
    assert (found["accuracy"], found["accuracy_per_byte"]) == (1.0, 0.0)


@pytest.mark.slow
def test_choices_agree_with_transformers(tiny_text: TinyText, tiny_model: Path, tmp_path: Path) -> None:
    """Question by question, choice by choice, each alone, from the text: what the batched evaluation must come to."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    words = ["the", "river", "runs", "past", "mill", "children", "play", "green", "trees"]
    chance = random.Random(0)
    rows = [
        {
            "query": " ".join(chance.choices(words, k=chance.randrange(1, 5))),
            "choices": [" ".join(chance.choices(words, k=chance.randrange(1, 4))) for _ in range(chance.randrange(2, 5))],
            "gold": chance.randrange(2),
        }
        for _ in range(12)
    ]
    path = tmp_path / "quiz.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    data = DataConfig(multiple_choice={"quiz": MultipleChoiceConfig(path=str(path), delimiter=" ")}, context_length=32)
    found = measure(model, evaluation_sets(data, tokenizer)["quiz"], batch_tokens=100)

    right, right_per_byte, nats, size = 0, 0, 0.0, 0
    for row in rows:
        sums = []
        for choice in row["choices"]:
            before = tokenizer(row["query"])["input_ids"]
            both = tokenizer(f"{row['query']} {choice}", return_tensors="pt")["input_ids"]
            logits = model(both).logits.detach().log_softmax(-1)[0]
            sums.append(sum(float(logits[i - 1, both[0, i]]) for i in range(len(before), both.shape[1])))
        per_byte = [value / len(choice.encode()) for value, choice in zip(sums, row["choices"], strict=True)]
        right += sums.index(max(sums)) == row["gold"]
        right_per_byte += per_byte.index(max(per_byte)) == row["gold"]
        nats -= sums[row["gold"]]
        size += len(row["choices"][row["gold"]].encode())
    assert found["accuracy"] == pytest.approx(right / len(rows))
    assert found["accuracy_per_byte"] == pytest.approx(right_per_byte / len(rows))
    assert found["answer_bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    assert 0 < found["accuracy"] < 1


def quiz(path: Path) -> list[str]:
    rows = [{"query": "the river runs", "choices": ["past the mill", "def return"], "gold": n % 2} for n in range(4)]
    path.write_text("".join(json.dumps({**row, "query": f"{n} {row['query']}"}) + "\n" for n, row in enumerate(rows)))
    return [f"data.multiple_choice.quiz.path={path}", "data.validation.domain.loss_by_position=true"]


def test_a_run_logs_what_a_sweep_may_ask_for(new_run: NewRun, tmp_path: Path) -> None:
    config, run = new_run("run", *quiz(tmp_path / "quiz.jsonl"), "trainer.max_steps=2", "trainer.evaluate_every_steps=1")
    result = train_here(run)
    rows = run.metrics.rows()
    names = set(logged_metrics(config.data))
    assert {"val/quiz/accuracy", "val/domain/loss/tokens_0_63", "val/general/forgetting"} <= names
    for row in rows:
        assert {name for name in row if name.startswith("val/")} == names
    assert rows[0]["val/quiz/accuracy"] in (0.0, 0.25, 0.5, 0.75, 1.0)
    assert result.metrics["val/domain/loss/tokens_0_63"] == pytest.approx(result.metrics["val/domain/loss"], rel=1e-15), "rows of 32"
    assert result.evaluation_seconds == pytest.approx(math.fsum(row["evaluation_seconds"] for row in rows))
    assert 0 < result.evaluation_seconds < result.seconds


class Clock:
    """In the place of the module `time`: a look at it takes a millisecond, and only what says so takes longer, however busy the machine."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 0.001
        return self.now


def test_the_time_of_evaluation_is_not_that_of_training(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    _, run = new_run("run", "trainer.max_steps=6", "trainer.evaluate_every_steps=2", "trainer.log_every_steps=1")

    def slowly(*args: Any, **kwargs: Any) -> Measured:
        clock.now += 0.25
        return Measured({"loss": 1.0, "bits_per_byte": 1.0})

    monkeypatch.setattr(DomainLossSet, "measure", slowly)
    for module in ("evaluator", "step_end"):
        monkeypatch.setattr(f"harness.training.{module}.time", clock)
    result = train_here(run)
    assert result.evaluation_seconds > 4 * 2 * 0.25  # steps 0, 2, 4, 6, two domains
    rows = run.metrics.rows()
    seconds = math.fsum((row["tokens"] - before["tokens"]) / row["tokens_per_second"] for before, row in itertools.pairwise(rows))
    assert seconds < 1.0


def test_evaluation_that_takes_too_much_of_a_run_is_said_once(tiny_text: TinyText, caplog: pytest.LogCaptureFixture) -> None:
    config = load([*tiny_text.overrides, "trainer.evaluate_every_steps=10"]).config
    evaluator = Evaluator(config, [])
    evaluator.seconds, evaluator.evaluations = 6.0, 2
    for steps, seconds_per_step, warned in ((30, 1.6, False), (30, 1.0, True), (30, 1.0, False)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="harness"):
            evaluator.warn_of_share(steps, seconds_per_step)
        assert bool(caplog.messages) == warned
        if warned:
            expected = (
                "evaluation takes about 29 % of this run's time: 4 times 3.0 s, against 30 s of training. Less of it: a larger trainer."
            )
            assert caplog.messages[0].startswith(expected)


def test_the_progress_of_every_set_is_told(new_run: NewRun, tmp_path: Path) -> None:
    _, run = new_run("run", *quiz(tmp_path / "quiz.jsonl"), "trainer.max_steps=1", "trainer.evaluation_batch_tokens=64")
    seen: list[tuple[str, int, int]] = []
    train_with(run, stop=StopFlag(), evaluation_progress=lambda *progress: seen.append(progress))
    assert [name for name, _ in itertools.groupby(seen, lambda entry: entry[0])] == ["domain", "general", "quiz"] * 2
    for _, group in itertools.groupby(seen, lambda entry: entry[0]):
        done = [(done, size) for _, done, size in group]
        assert done[0][0] == 0
        assert done[-1][0] == done[-1][1]
        assert done == sorted(done)
