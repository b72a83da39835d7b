"""Models that do not see where packed documents begin are given a mask, or train on padded rows and on no others."""

from __future__ import annotations

import pytest
import torch

from harness.config.errors import InputError
from harness.config.load import load
from harness.config.schema import Config
from harness.data.dataset import PackedRows
from harness.models.isolation import isolate_documents
from harness.models.language_model import build_model
from harness.models.tokenizer import load_tokenizer
from harness.runs.result import read_result
from harness.training.module import TrainingModule
from harness.training.objectives.build import build_objective
from harness.training.plan import build_plan
from tests.support.corpus import TinyText
from tests.support.datasets import training_data
from tests.training.conftest import NewRun
from tests.training.runs import train_here

FALCON = ("model.family=falcon", "model.intermediate_size=null")


def test_a_family_that_leaks(new_run: NewRun) -> None:
    for packing in ("best_fit", "concat"):
        _, run = new_run(packing, *FALCON, f"data.packing={packing}", "data.isolation=position_ids")
        with pytest.raises(InputError, match=f"data.packing={packing}, .*: documents of a row see each other in this model .falcon"):
            train_here(run)
        assert read_result(run).state == "failed"
    _, run = new_run("padded", *FALCON, "data.packing=padded")
    assert train_here(run).state == "complete"


def loss_and_gradients(config: Config) -> tuple[float, int, dict[str, torch.Tensor]]:
    """Of all rows of the first epoch at once: loss per predicted token, how many those are, gradients."""
    tokenizer = load_tokenizer(config)
    data = training_data(config.data, tokenizer, seed=config.seed)
    model = build_model(config.model, tokenizer, seed=config.seed)
    isolate_documents(model, config)
    objective = build_objective(config)
    objective.load(model, tokenizer)
    module = TrainingModule(model, config, build_plan(config, data), objective)
    batch = PackedRows(data).__getitems__(list(range(len(data.sources[0].row_targets))))
    tokens = int((batch["labels"] >= 0).sum())
    loss = objective.loss_sum(model, batch) / tokens
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach()), tokens, {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("chunk", ["null", "500"])
def test_packed_under_a_mask_is_each_document_alone(tiny_text: TinyText, chunk: str) -> None:
    one_source = [item for item in tiny_text.overrides if "general" not in item and "replay" not in item]
    config = load([*one_source, *FALCON, f"trainer.loss_chunk_tokens={chunk}", "data.packing=best_fit"]).config
    packed, tokens, gradients = loss_and_gradients(config)
    config = load([*one_source, *FALCON, "data.packing=padded"]).config
    alone, same_tokens, others = loss_and_gradients(config)
    assert tokens == same_tokens
    assert packed == pytest.approx(alone, rel=1e-6)
    for name, gradient in others.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}")


def test_a_family_that_leaks_trains_packed_under_a_mask(new_run: NewRun, caplog: pytest.LogCaptureFixture) -> None:
    _, run = new_run("run", *FALCON)
    assert train_here(run).metrics["val/domain/forgetting"] < 0
    assert caplog.text.count("by an explicit mask") == 1


@pytest.mark.parametrize("packing", ["best_fit", "concat", "padded"])
def test_learned_positions(new_run: NewRun, packing: str) -> None:
    _, run = new_run("run", "model.family=gpt2", "model.intermediate_size=null", f"data.packing={packing}")
    done = train_here(run)
    assert done.state == "complete"
    assert done.metrics["val/domain/forgetting"] < 0
