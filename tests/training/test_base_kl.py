"""data.kl: how far a run's model is from what its adapter, its training or its merge began with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.config.errors import InputError
from harness.config.load import load
from harness.data.labels import IGNORED
from harness.evaluation.domain_loss import DomainLossSet
from harness.models.adapters.build import build_adapted_model
from harness.models.language_model import build_model
from harness.training import divergences
from harness.training.base import base_of
from harness.training.divergences import kl_by_row
from harness.training.evaluation import evaluated
from harness.training.inputs import load_inputs
from harness.work.evaluate import evaluation_of
from harness.work.start_run import start_run
from tests.support.corpus import TinyText
from tests.training.conftest import NewRun
from tests.training.runs import train_here

KL = ["data.kl=true", "data.validation.general.max_tokens=400", "data.validation.domain.max_tokens=400"]
KINDS = {
    "full": [],
    "lora": ["adapter=lora", "adapter.rank=2"],
    "dora": ["adapter=lora", "adapter.rank=2", "adapter.variant=dora"],
    "pissa": ["adapter=lora", "adapter.rank=2", "adapter.variant=pissa"],
    "soft_prompt": ["adapter=soft_prompt", "adapter.tokens=3", "data.context_length=16"],
}


def test_by_arithmetic_and_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    p, q = torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.3, 0.5]]), torch.tensor([[0.25, 0.5, 0.25], [0.2, 0.3, 0.5]])
    expected = [0.5 * np.log(2) + 0.25 * np.log(0.5), 0.0]
    assert kl_by_row(p.log() + 3, q.log() - 1).tolist() == pytest.approx(expected, abs=1e-6)
    monkeypatch.setattr(divergences, "CHUNK_NUMBERS", 3)
    assert kl_by_row(p.log(), q.log()).tolist() == pytest.approx(expected, abs=1e-6)
    assert kl_by_row(p[:0], q[:0]).shape == (0,)


@pytest.mark.parametrize("kind", ["full", "lora", "pissa"])
def test_it_is_that_of_two_models_read_by_hand(tiny_text: TinyText, tiny_model: Path, kind: str) -> None:
    config = load([*tiny_text.pretrained(tiny_model), *KL, *KINDS[kind]]).config
    inputs = load_inputs(config)
    part = next(one for one in inputs.evaluation if one.name == "general")
    assert isinstance(part, DomainLossSet)
    adapted, base = build_adapted_model(config, inputs.tokenizer).model, build_model(config.model, inputs.tokenizer, seed=config.seed)
    torch.manual_seed(0)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += 0.02 * torch.randn_like(parameter)
    before = {name: parameter.clone() for name, parameter in adapted.state_dict().items()}
    with evaluated(adapted, batch_tokens=64, base=base_of(config, inputs.tokenizer)) as reading:
        measured = part.measure(reading, lambda _: None)
    sums, count, base_nats = 0.0, 0, 0.0
    adapted.train(False)
    base.train(False)
    with torch.no_grad():
        for ids, labels in part.batches(64):
            given: Any = {"input_ids": torch.from_numpy(ids), "use_cache": False}
            p, q = (model(**given).logits.double().log_softmax(-1) for model in (base, adapted))
            scored = torch.from_numpy(labels != IGNORED)
            sums += float((p.exp() * (p - q)).sum(-1)[scored].sum())
            count += int(scored.sum())
            base_nats -= float(p[scored].gather(-1, torch.from_numpy(labels)[scored][:, None]).sum())
    assert count == part.predicted_tokens
    assert part.tokens_read == 2 * len(part.tokens), "the base reads them, too"
    assert measured.values["kl"] == pytest.approx(sums / count, rel=1e-5)
    assert measured.values["kl"] > 1e-3
    assert measured.base["loss"] == pytest.approx(base_nats / count, rel=1e-5)
    assert sum(total for total, _ in measured.documents["kl"].values()) == pytest.approx(sums, rel=1e-5)
    assert sum(size for _, size in measured.documents["kl"].values()) == count
    assert all(torch.equal(parameter, before[name]) for name, parameter in adapted.state_dict().items())
    assert any(parameter.requires_grad for parameter in adapted.parameters()), "the adapter is on again"


def test_a_merge_is_compared_with_its_base(tiny_text: TinyText, tiny_model: Path, new_run: NewRun, tmp_path: Path) -> None:
    _, run = new_run("run", *tiny_text.pretrained(tiny_model), "trainer.max_steps=2", "optim.lr=1e-2", "trainer.final_checkpoint=weights")
    train_here(run)
    merge = ["model=merge", "model.merge.method=task_arithmetic", f"model.merge.base={tiny_model}", "trainer.max_steps=0"]
    merge += [f"model.merge.ingredients.own.path={run.path}", *KL, *tiny_text.data, "trainer=cpu"]
    found = []
    for weight in (0.0, 0.5, 1.0):
        config = load([*merge, f"model.merge.ingredients.own.weight={weight}"]).config
        inputs = load_inputs(config)
        part = next(one for one in inputs.evaluation if one.name == "general")
        model = build_model(config.model, inputs.tokenizer, seed=0)
        with evaluated(model, batch_tokens=64, base=base_of(config, inputs.tokenizer)) as reading:
            found.append(part.measure(reading, lambda _: None).values["kl"])
    assert found[0] == 0
    assert 1e-5 < found[1] < found[2]
    with pytest.raises(InputError, match=r"data\.kl=true: a merge is compared with its base; valid: model\.merge\.base=PATH, or false"):
        load([*(one for one in merge if "method" not in one and ".base" not in one), "model.merge.method=linear"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_begins_at_0_and_is_evaluated_as_it_ended(new_run: NewRun, tmp_path: Path, kind: str) -> None:
    _, run = new_run("run", *KL, *KINDS[kind], "trainer.max_steps=2", "optim.lr=1e-2")
    train_here(run)
    first, *_, last = [row for row in run.metrics.rows() if "val/general/kl" in row]
    # A soft prompt changes the model from the beginning on; PiSSA's parts add up to the matrices, but for rounding.
    assert first["val/general/kl"] == pytest.approx(0, abs=1e-6) or kind == "soft_prompt"
    assert last["val/general/kl"] > 1e-5
    _, plain = new_run("plain", *KL[1:], *KINDS[kind], "trainer.max_steps=2", "optim.lr=1e-2")
    train_here(plain)
    losses = [[row["val/general/loss"] for row in one.metrics.rows() if "val/general/loss" in row] for one in (run, plain)]
    assert losses[0] == losses[1], "looking at it changes nothing"
    done = start_run(evaluation_of(str(run.path), []).config, directory=tmp_path / "evaluated", show_progress=False)
    assert done is not None
    (row,) = done.run.metrics.rows()
    for name in ("kl", "forgetting"):
        assert row[f"val/general/{name}"] == pytest.approx(last[f"val/general/{name}"], rel=1e-5, abs=1e-6)
    assert row["val/general/forgetting"] != 0


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["trainer.max_steps=0"], "data.kl=true: nothing is changed in the model, it is its own base; valid: false, or an adapter"),
        (["~data.validation.general", "~data.validation.domain"], "data.kl=true: there is no validation set to compare on"),
    ],
)
def test_what_has_nothing_to_compare_is_refused(tiny_text: TinyText, overrides: list[str], said: str) -> None:
    given = (
        [one for one in tiny_text.overrides if "validation" not in one]
        if overrides[0].startswith("~")
        else [*tiny_text.overrides, *overrides]
    )
    with pytest.raises(InputError, match=re.escape(said)):
        load([*given, "data.kl=true"])
