"""objective.kind=kto: answers with labels, the divergence that they are compared with, and runs that learn from them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.config.errors import InputError
from harness.config.load import load
from harness.data.dataset import PackedRows
from harness.data.training_data import TrainingData
from harness.models.language_model import build_model
from harness.search.trial_cost import cost_bound
from harness.training.inputs import load_inputs
from harness.training.mismatched import mismatched
from harness.training.objectives.build import build_objective
from harness.training.objectives.kto import Kto
from tests.support import corpus
from tests.support.corpus import TinyText
from tests.training.answers import assert_same_step, first_step, over_answers
from tests.training.runs import assert_same_run, new_run_of, train_here
from tests.training.test_ranks import assert_close, train_on_ranks

WORDS = corpus.DOMAIN_WORDS


@pytest.fixture
def labelled(tmp_path: Path, tiny_text: TinyText) -> list[str]:
    """Overrides: 60 answers of plain text to 30 prompts, a third of them bad, with a little replay."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(60):
        label = number % 3 != 0
        words = WORDS[:5] if label else WORDS[5:]
        answer = " ".join(rng.choice(words, size=rng.integers(1, 5)).tolist())
        rows.append({"prompt": f"{WORDS[number % 10]} {WORDS[number // 10 % 3]}", "completion": f" {answer}", "label": label})
    return [*over_answers(tmp_path / "answers.jsonl", rows, tiny_text), "objective.kind=kto"]


def test_the_loss_does_not_depend_on_how_a_step_is_cut(labelled: list[str]) -> None:
    overrides = [*labelled, "objective.nll_weight=0.2", "objective.beta=0.5", "objective.undesirable_weight=2"]
    whole = first_step(overrides)
    for other in ("trainer.micro_batch_size=1", "trainer.loss_chunk_tokens=7"):
        assert_same_step(whole, first_step([*overrides, other]))


def prepared(overrides: list[str]) -> tuple[TrainingData, Kto, torch.nn.Module]:
    config = load([*overrides, "data.replay_share=0"]).config
    inputs, objective = load_inputs(config), build_objective(config)
    assert inputs.plan is not None
    assert isinstance(objective, Kto)
    data = objective.prepare(inputs.plan.data, inputs.tokenizer)
    return data, objective, build_model(config.model, inputs.tokenizer, seed=config.seed)


def test_each_prompt_is_read_with_the_answer_to_another_one(labelled: list[str]) -> None:
    data, _, _ = prepared(labelled)
    [source] = data.sources
    documents, partners = source.documents, source.partners
    assert sorted(partners.tolist()) == list(range(60)), "each answer once"
    assert (documents.hashes[partners] != documents.hashes).all()
    texts = mismatched(source, np.arange(60))
    bounds = np.concatenate([[0], np.cumsum(texts.lengths)])
    assert documents.trained is not None
    for document, partner in enumerate(partners.tolist()):
        own, other = (slice(documents.offsets[one], documents.offsets[one + 1]) for one in (document, partner))
        prompt = documents.tokens[own][~np.asarray(documents.trained[own])]
        answer = documents.tokens[other][np.asarray(documents.trained[other])]
        read = slice(bounds[document], bounds[document + 1])
        assert texts.tokens[read].tolist() == [*prompt.tolist(), *answer.tolist()]
        assert texts.is_scored[read].sum() == len(answer)


def test_the_divergence_of_a_step_by_hand(labelled: list[str]) -> None:
    data, objective, model = prepared(labelled)
    [source] = data.sources
    assert source.mismatched_reference is not None
    documents = data.documents_at(0, 2)["prefs"]
    objective.begin_step(model, data, 0, 2)
    objective.loss_sum(model, PackedRows(data).__getitems__([0, 1]))
    assert objective.step_metrics()["kl"] == pytest.approx(0, abs=1e-5)  # the model is its reference
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight *= 1.2 if "norm" in name else 1
    texts = mismatched(source, documents)
    gains, at = [], 0
    for document, length in zip(documents, texts.lengths.tolist(), strict=True):
        ids = torch.from_numpy(texts.tokens[at : at + length].astype(np.int64))
        with torch.no_grad():
            logps = model(input_ids=ids[None, :-1]).logits[0].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
        answered = torch.from_numpy(texts.is_scored[at + 1 : at + length].copy())
        gains.append(float(logps[answered].sum()) - source.mismatched_reference[document])
        at += length
    objective.begin_step(model, data, 0, 2)
    objective.loss_sum(model, PackedRows(data).__getitems__([0, 1]))
    expected = max(0.0, math.fsum(gains) / len(gains))
    assert abs(math.fsum(gains)) > 1e-3
    assert objective.step_metrics()["kl"] == pytest.approx(expected, abs=1e-5)


def test_a_budget_counts_what_is_read_after_other_prompts(labelled: list[str]) -> None:
    overrides = [*labelled, "data.replay_share=0", "trainer.max_tokens=2000", "trainer.max_steps=null"]
    config = load(overrides).config
    plan = load_inputs(config).plan
    assert plan is not None
    [source] = plan.data.sources
    read = []
    for step in range(plan.steps):
        before = plan.batch_size.rows_before(plan.steps)
        first, end = int(before[step]), int(before[step + 1])
        _, rows = plan.data.order.rows(first, end)
        documents = source.packing.piece_document[source.packing.pieces_of(rows)]
        read.append(int(source.packing.row_tokens[rows].sum() + mismatched(source, documents).lengths.sum()))
    assert plan.tokens.tolist() == np.cumsum(read).tolist()
    assert plan.tokens[-1] <= 2000 == cost_bound(config) < plan.tokens[-1] + 2 * max(read)
    with pytest.raises(InputError, match=r"objective.kind=kto: reads each answer once more .* valid: beside it trainer.max_tokens"):
        cost_bound(load([*overrides, "trainer.max_tokens=null", "trainer.max_steps=5"]).config)


RUN = ("trainer.micro_batch_size=2", "trainer.max_steps=12", "optim.lr=3e-3")


def test_a_run_learns_which_answers_are_good(labelled: list[str], tmp_path: Path) -> None:
    run = new_run_of(tmp_path / "run", *labelled, *RUN, "data.replay_share=0", "objective.beta=0.5")
    train_here(run)
    rows = [row for row in run.metrics.rows() if row["step"]]
    assert rows[0]["train/loss"] == pytest.approx(0.5, abs=1e-5)
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-4)
    assert rows[-1]["train/loss"] < 0.4
    assert rows[-1]["rewards/chosen"] > rows[-1]["rewards/rejected"]
    assert rows[-1]["rewards/margins"] == pytest.approx(rows[-1]["rewards/chosen"] - rows[-1]["rewards/rejected"], abs=1e-5)


def test_a_run_that_is_stopped_goes_on_to_the_bit(labelled: list[str], tmp_path: Path) -> None:
    overrides = [*labelled, *RUN, "model.attention_dropout=0.1"]
    whole = new_run_of(tmp_path / "whole", *overrides)
    train_here(whole)
    stopped = new_run_of(tmp_path / "stopped", *overrides)
    assert train_here(stopped, stop_after=5).state == "waiting"
    train_here(stopped)
    assert_same_run(whole, stopped)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_ranks_divide_a_step_without_changing_it(labelled: list[str], tmp_path: Path, strategy: str) -> None:
    overrides = [*labelled, *RUN, "trainer.max_steps=4", "objective.beta=0.5"]
    one = new_run_of(tmp_path / "one", *overrides)
    train_here(one)
    two = new_run_of(tmp_path / "two", *overrides, "trainer.devices=2", f"trainer.strategy={strategy}")
    assert train_on_ranks(two).state == "complete"
    assert_close(one, two)


def test_answers_of_pairs_have_labels(labelled: list[str], tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"{one} {two}", "chosen": f" {two}", "rejected": f" {one} {one}"} for one in WORDS[:5] for two in WORDS[5:]]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data, _, _ = prepared([*labelled, f"data.sources.prefs.path={file}"])
    [source] = data.sources
    batch = PackedRows(data).__getitems__(list(range(source.packing.rows)))
    assert batch["answer_labels"].sum() * 2 == len(batch["answer_labels"]) == 2 * len(rows)
    tokens = batch["answer_tokens"]
    assert tokens[batch["answer_labels"]].sum() < tokens[~batch["answer_labels"]].sum()


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["trainer.batch_pairs=1"], "trainer.batch_pairs=1: objective.kind=kto compares each answer with others"),
        (["objective.kind=dpo", "objective.desirable_weight=2"], "objective.desirable_weight=2.0: has no effect with objective.kind=dpo"),
        (["objective.label_smoothing=0.1"], "objective.label_smoothing=0.1: has no effect with objective.kind=kto"),
        (["objective.gamma=1"], "objective.gamma=1.0: has no effect with objective.kind=kto; read by simpo, dpop"),
    ],
)
def test_what_does_not_go_together_is_refused(labelled: list[str], overrides: list[str], problem: str) -> None:
    with pytest.raises(InputError, match=re.escape(problem)):
        load([*labelled, *overrides])


@pytest.mark.parametrize(
    ("row", "overrides", "problem"),
    [
        ({"prompt": "a", "completion": " b", "label": "good"}, [], "label is a string, 'good'; valid: true (a good answer) or false"),
        ({"prompt": "a", "completion": " b", "label": 1}, [], "label is a number, 1; valid: true"),
        ({"prompt": "a", "completion": " b"}, [], "no answer with a label (no field 'label'; fields there: prompt, completion)"),
        ({"prompt": "a", "label": True}, [], "no answer with a label (no field 'completion'"),
        ({"prompt": "a", "completion": " ", "label": True}, [], "none of its 1 answers is of use (1 with an empty answer)"),
        ({"prompt": "a", "completion": " b", "label": True}, [], "1 of its 1 answers are to one prompt"),
        ({"prompt": "a", "completion": " b" * 90, "label": True}, [], "every one of its 1 answers is longer than a row"),
        (
            {"prompt": "a", "completion": " b", "label": True},
            ["data.preference.p.source=prefs", "data.preference.p.share=0.5"],
            "data.preference.p.source=prefs: holds answers with labels, and pairs are compared here",
        ),
        (
            {"prompt": "a", "completion": " b", "label": True},
            ["objective.kind=dpo", "data.sources.prefs.format=auto"],
            "or objective.kind=kto for answers with labels",
        ),
    ],
)
def test_answers_that_cannot_be_used_are_refused(
    labelled: list[str], tmp_path: Path, row: dict[str, object], overrides: list[str], problem: str
) -> None:
    file = tmp_path / "other.jsonl"
    file.write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=re.escape(problem)) as error:
        prepared([*labelled, f"data.sources.prefs.path={file}", "data.chat_template=alpaca", *overrides])
    if "label is" in problem:
        assert f"{file}, line 1" in str(error.value)


def test_a_step_of_one_answer_is_refused(labelled: list[str]) -> None:
    overrides = [*labelled, "data.context_length=8", "trainer.batch_tokens=8", "data.replay_share=0", "trainer.max_steps=30"]
    with pytest.raises(InputError, match=r"trainer\.batch_tokens=8: step \d+ has one answer alone"):
        load_inputs(load(overrides).config)
