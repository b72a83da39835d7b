"""objective=preference: pairs in packed rows, their reference, and runs that learn from them."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.config.checks.trainer import token_bound
from harness.config.errors import InputError
from harness.config.load import load
from harness.data.dataset import PackedRows
from harness.models.language_model import build_model
from harness.training.answer_logps import answer_logps
from harness.training.inputs import load_inputs
from harness.training.objectives.build import build_objective
from harness.training.plan import Plan
from harness.training.reference_logprobs import with_reference
from tests.support import corpus
from tests.support.corpus import TinyText
from tests.training.answers import assert_same_step, first_step, over_answers
from tests.training.runs import assert_same_run, new_run_of, train_here

WORDS = corpus.DOMAIN_WORDS


@pytest.fixture
def pairs(tmp_path: Path, tiny_text: TinyText) -> list[str]:
    """Overrides: 60 pairs of plain text, of several lengths, with a little replay."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(60):
        words = (WORDS, WORDS[:5], WORDS[5:])
        prompt, chosen, rejected = (" ".join(rng.choice(some, size=rng.integers(1, 4)).tolist()) for some in words)
        rows.append({"prompt": prompt, "chosen": f" {chosen}", "rejected": f" {rejected} {rejected}"})
    return over_answers(tmp_path / "pairs.jsonl", rows, tiny_text)


@pytest.mark.parametrize("kind", ["dpo", "simpo"])
def test_the_loss_does_not_depend_on_how_a_step_is_cut(pairs: list[str], kind: str) -> None:
    overrides = [*pairs, f"objective.kind={kind}", "objective.nll_weight=0.2"]
    whole = first_step(overrides)
    for other in ("trainer.micro_batch_size=1", "trainer.loss_chunk_tokens=7"):
        assert_same_step(whole, first_step([*overrides, other]))


@pytest.mark.parametrize("attention", ["auto", "sdpa"])
def test_a_prompt_that_is_read_once_changes_nothing_but_the_rows(pairs: list[str], attention: str) -> None:
    """A step of all pairs, in however many rows they lie: auto is varlen here, sdpa has a mask."""
    steps, data = [], []
    for shared in ("false", "true"):
        overrides = [*pairs, f"data.share_prompt={shared}", f"model.attention={attention}", "data.replay_share=0", "trainer.max_steps=1"]
        plan = load_inputs(load(overrides).config).plan
        assert plan is not None
        data.append(plan.data)
        steps.append(first_step([*overrides, f"trainer.batch_tokens={64 * plan.data.sources[0].packing.rows}"]))
    assert_same_step(*steps)
    (apart,), (shared_,) = (one.sources for one in data)
    assert shared_.packing.tokens < 0.9 * apart.packing.tokens
    assert shared_.packing.rows < apart.packing.rows
    assert shared_.row_targets.sum() == apart.row_targets.sum()
    assert shared_.fingerprint != apart.fingerprint, "what the reference said is of one layout"


def test_packed_answers_have_the_log_probabilities_that_they_have_alone(pairs: list[str]) -> None:
    config = load([*pairs, "data.replay_share=0"]).config
    inputs = load_inputs(config)
    assert inputs.plan is not None
    model = build_model(config.model, inputs.tokenizer, seed=5)
    model.train(False)
    data = inputs.plan.data
    [source] = data.sources
    documents, found = source.documents, torch.full((source.documents.documents,), math.nan)
    with torch.no_grad():
        batch = PackedRows(data).__getitems__(list(range(source.packing.rows)))
        _, rows = data.order.rows(0, source.packing.rows)
        logps, others = answer_logps(model, batch, chunk=None)
        found[source.packing.piece_document[source.packing.pieces_of(rows)]] = logps
        assert float(others) == 0
        assert source.packing.rows < documents.documents // 3, "several pairs a row"
        assert documents.trained is not None
        for document in range(0, documents.documents, 7):
            own = slice(documents.offsets[document], documents.offsets[document + 1])
            ids = torch.from_numpy(documents.tokens[own].astype(np.int64))
            token_logps = model(input_ids=ids[None, :-1]).logits[0].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
            alone = float(token_logps[torch.from_numpy(documents.trained[own][1:].copy())].sum())
            assert float(found[document]) == pytest.approx(alone, abs=2e-5)


def test_the_reference_reads_pairs_once_and_is_kept(pairs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(pairs).config
    inputs = load_inputs(config)
    assert inputs.plan is not None
    some = with_reference(config, inputs.plan.data, inputs.tokenizer, rows=2)
    logps = next(source.reference for source in some.sources if source.name == "prefs")
    assert logps is not None
    assert 0 < np.isfinite(logps).sum() < len(logps)
    every = with_reference(config, inputs.plan.data, inputs.tokenizer)
    logps = next(source.reference for source in every.sources if source.name == "prefs")
    assert logps is not None
    assert np.isfinite(logps).all()
    assert sum(file.stat().st_size for file in (tmp_path / "cache" / "reference").glob("*/logps.bin")) == 16 * 60
    monkeypatch.setattr("harness.training.reference_logprobs.load_reference", None)
    # What is searched over all of the time is none of the reference's business.
    again = load([*pairs, "optim.lr=0.1", "objective.kind=ipo", "objective.beta=0.5", "adapter=lora"]).config
    assert with_reference(again, inputs.plan.data, inputs.tokenizer).fingerprint == every.fingerprint
    for other in ("trainer.precision=bf16-mixed", "seed=1", "model.layers=1"):
        with pytest.raises(TypeError):  # made anew
            with_reference(load([*pairs, other]).config, inputs.plan.data, inputs.tokenizer)


@pytest.mark.parametrize(("variant", "kind"), [("plain", "dpo"), ("rslora", "kto"), ("dora", "dpo")])
def test_with_its_adapter_off_a_model_is_its_reference(
    pairs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str, kind: str
) -> None:
    # Of weights changed at random kto's divergence is below 0, which would hide what it is.
    monkeypatch.setattr("harness.training.objectives.kto.max", lambda _, divergence: divergence, raising=False)
    adapter = ["adapter=lora", "adapter.rank=2", f"adapter.variant={variant}", "tokenizer.new_tokens=['<tool>']"]
    overrides = [*pairs, *adapter, f"objective.kind={kind}", "trainer.batch_tokens=512"]
    kept = first_step(overrides)
    shutil.rmtree(tmp_path / "cache" / "reference")
    assert_same_step(kept, first_step([*overrides, "objective.precompute_reference=false", "trainer.micro_batch_size=2"]))
    assert not (tmp_path / "cache" / "reference").exists(), "nothing is kept"
    assert abs(kept.logged["rewards/margins"]) > 1e-3
    assert kind == "dpo" or kept.logged["kl"] < -1e-3


def test_a_run_with_shared_prompts(pairs: list[str], tmp_path: Path) -> None:
    run = new_run_of(tmp_path / "run", *pairs, *RUN, "data.share_prompt=true", "adapter=lora", "data.replay_share=0.2")
    train_here(run)
    rows = [row for row in run.metrics.rows() if row["step"]]
    assert rows[0]["rewards/margins"] == pytest.approx(0, abs=1e-4)
    assert rows[-1]["rewards/margins"] > 0.1


RUN = ("trainer.micro_batch_size=2", "trainer.max_steps=12", "optim.lr=3e-3")


def test_a_run_learns_to_prefer(pairs: list[str], tmp_path: Path) -> None:
    run = new_run_of(tmp_path / "run", *pairs, *RUN, "data.replay_share=0")
    train_here(run)
    rows = [row for row in run.metrics.rows() if row["step"]]
    assert rows[0]["train/loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert rows[0]["rewards/margins"] == pytest.approx(0, abs=1e-4)
    assert rows[-1]["train/loss"] < 0.4
    assert rows[-1]["rewards/margins"] > 0.5
    assert rows[-1]["rewards/accuracies"] > 0.9
    assert rows[-1]["rewards/margins"] == pytest.approx(rows[-1]["rewards/chosen"] - rows[-1]["rewards/rejected"], abs=1e-5)


def test_a_run_that_is_stopped_goes_on_to_the_bit(pairs: list[str], tmp_path: Path) -> None:
    """With all that has a state to lose: dropout, accumulation, a mixture."""
    overrides = [*pairs, *RUN, "model.attention_dropout=0.1"]
    whole = new_run_of(tmp_path / "whole", *overrides)
    train_here(whole)
    stopped = new_run_of(tmp_path / "stopped", *overrides)
    assert train_here(stopped, stop_after=5).state == "waiting"
    train_here(stopped)
    assert_same_run(whole, stopped)


def test_batches_in_pairs(pairs: list[str]) -> None:
    overrides = [*pairs, "trainer.batch_pairs=6", "trainer.micro_batch_size=2", "data.replay_share=0"]
    plan = load_inputs(load([*overrides, "trainer.max_steps=20"]).config).plan
    assert plan is not None
    rows = plan.batch_size.full
    assert rows % 2 == 0
    assert plan.accumulation == rows // 2
    assert abs(plan.targets.mean() - 6) <= plan.data.examples_a_row  # to the nearest micro-batch of two rows
    assert plan.targets.sum() == sum(batch_pairs(plan, step) for step in range(20))
    # A budget in tokens holds, and what a study reserves is the budget.
    config = load([*overrides, "trainer.max_tokens=3000", "trainer.max_steps=null"]).config
    bounded = load_inputs(config).plan
    assert bounded is not None
    assert bounded.tokens[-1] <= 3000 == token_bound(config)


def batch_pairs(plan: Plan, step: int) -> int:
    """Pairs of a step, counted in its rows."""
    before = plan.batch_size.rows_before(plan.steps)
    return len(PackedRows(plan.data).__getitems__(list(range(before[step], before[step + 1])))["answer_tokens"]) // 2


def test_before_its_first_step_a_model_is_its_reference(pairs: list[str]) -> None:
    config = load([*pairs, "data.replay_share=0"]).config
    inputs, objective = load_inputs(config), build_objective(config)
    assert inputs.plan is not None
    model = build_model(config.model, inputs.tokenizer, seed=config.seed)
    rows = PackedRows(objective.prepare(inputs.plan.data, inputs.tokenizer))
    batch = rows.__getitems__([0, 1, 2])
    loss = objective.loss_sum(model, batch) * 2 / len(batch["answer_tokens"])
    assert float(loss.detach()) == pytest.approx(math.log(2), abs=1e-5)


def test_rewards_without_a_reference_are_per_token(pairs: list[str]) -> None:
    config = load([*pairs, "data.replay_share=0", "objective.kind=simpo", "objective.beta=3"]).config
    inputs, objective = load_inputs(config), build_objective(config)
    assert inputs.plan is not None
    model = build_model(config.model, inputs.tokenizer, seed=config.seed)
    batch = PackedRows(inputs.plan.data).__getitems__([0, 1, 2])
    assert "answer_reference" not in batch
    objective.begin_step(model, inputs.plan.data, 0, 3)
    objective.loss_sum(model, batch)
    with torch.no_grad():
        per_token = answer_logps(model, batch, chunk=None)[0] / batch["answer_tokens"]
    logged = objective.step_metrics()
    assert logged["rewards/chosen"] == pytest.approx(3 * float(per_token[0::2].mean()), rel=1e-5)
    assert logged["rewards/accuracies"] == float((per_token[0::2] > per_token[1::2]).float().mean())


def test_a_reference_of_another_vocabulary_is_refused(pairs: list[str], tmp_path: Path) -> None:
    other = corpus.tiny_text(tmp_path / "other", count=5)
    model = corpus.tiny_model(tmp_path / "model", other.tokenizer, context=64)
    config = load([*pairs, f"objective.reference={model}"]).config
    inputs = load_inputs(config)
    assert inputs.plan is not None
    with pytest.raises(InputError, match=r"objective.reference=.*valid: a reference that knows the tokens of the text by the same ids"):
        build_objective(config).prepare(inputs.plan.data, inputs.tokenizer)


AT_EACH_STEP = ("objective.precompute_reference=false",)


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["data.packing=padded"], "data.packing=padded: answers lie in one row with others"),
        (["objective.kind=ipo", "objective.label_smoothing=0.1"], "objective.label_smoothing=0.1: has no effect with objective.kind=ipo"),
        (["objective.gamma=1"], "objective.gamma=1.0: has no effect with objective.kind=dpo; read by simpo, dpop"),
        (["objective.kind=simpo", "objective.reference=x"], "objective.reference=x: has no effect with objective.kind=simpo"),
        (["objective.kind=hinge"], "objective.kind=hinge"),
        (["objective=sft", "trainer.batch_pairs=4"], "trainer.batch_pairs has no effect with objective.name=sft"),
        (["trainer.batch_pairs=4", "trainer.initial_batch_tokens=64"], "not with trainer.batch_pairs"),
        (["trainer.batch_pairs=4", "schedule.warmup='100 tokens'"], "schedule.warmup=100 tokens: not in tokens with trainer.batch_pairs"),
        (["data.share_prompt=true", "objective.kind=kto"], "data.share_prompt=true: has no effect with objective.kind=kto"),
        (["data.share_prompt=true", "adapter=soft_prompt"], "data.share_prompt=true: not with adapter.tokens="),
        (["data.share_prompt=true", "data.isolation=position_ids"], "data.isolation=position_ids: says nothing of shared prompts"),
        (["data.share_prompt=true", "objective=sft"], "data.share_prompt has no effect with objective.name=sft"),
        (["objective.label_smoothing=0.5"], "objective.label_smoothing=0.5"),
        ([*AT_EACH_STEP], "with adapter.name=none that is not the reference"),
        ([*AT_EACH_STEP, "adapter=lora", "adapter.variant=pissa"], "with adapter.variant=pissa that is not the reference; valid: true, or"),
        ([*AT_EACH_STEP, "adapter=soft_prompt"], "with adapter.tokens=16 that is not the reference"),
        ([*AT_EACH_STEP, "adapter=lora", "adapter.train_tokens=[a]"], "with adapter.train_tokens=['a'] that is not the reference"),
        ([*AT_EACH_STEP, "adapter=lora", "objective.reference=m"], "with objective.reference=m that is not the reference"),
        (
            [*AT_EACH_STEP, "adapter=lora", "objective.kind=orpo"],
            "objective.precompute_reference=false: has no effect with objective.kind=orpo",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(pairs: list[str], overrides: list[str], problem: str) -> None:
    with pytest.raises(InputError, match=re.escape(problem)):
        load([*pairs, *overrides])
