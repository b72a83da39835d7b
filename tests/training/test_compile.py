"""trainer.compile changes time and rounding, and nothing else."""

from __future__ import annotations

from functools import partialmethod

import pytest
import torch

from harness.config.errors import InputError
from harness.models.compiled import compile_blocks, uncompiled
from harness.models.varlen import add_varlen
from tests.models.test_isolation import SHAPE, build
from tests.training.conftest import NewRun
from tests.training.runs import EXACT_RESUME, assert_same_run, final_state, train_here

TOLERANCE = 1e-4
"""Of losses over a few steps: another order of sums in float32."""


@pytest.mark.slow
@pytest.mark.long
def test_the_losses_of_an_uncompiled_run_and_the_same_bits_after_a_stop(new_run: NewRun) -> None:
    """Over packed rows, accumulation and a mixture; what is evaluated is the same function."""
    overrides = (*EXACT_RESUME, "model.attention_dropout=0", "trainer.max_steps=6", "trainer.log_every_steps=1")
    _, plain = new_run("plain", *overrides)
    train_here(plain)
    _, compiled = new_run("compiled", *overrides, "trainer.compile=true")
    train_here(compiled)
    before, after = plain.metrics.rows(), compiled.metrics.rows()
    assert before[0]["val/domain/loss"] == after[0]["val/domain/loss"], "evaluated as it is written"
    for one, other in zip(before[1:], after[1:], strict=True):
        assert other["train/loss"] == pytest.approx(one["train/loss"], abs=TOLERANCE)
        assert other["train/gradient_norm"] == pytest.approx(one["train/gradient_norm"], rel=1e-3)
    assert final_state(plain)["state_dict"].keys() == final_state(compiled)["state_dict"].keys()
    _, parts = new_run("parts", *overrides, "trainer.compile=true")
    assert train_here(parts, stop_after=3).step == 3
    assert train_here(parts).state == "complete"
    assert_same_run(compiled, parts)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled, and when, is decided before code is generated, which takes a minute: the graphs are run as they are."""
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend="aot_eager"))


@pytest.mark.slow
@pytest.mark.usefixtures("traced")
def test_blocks_are_compiled_once_whatever_is_evaluated() -> None:
    model = build("llama", SHAPE)
    compile_blocks(model, on_gpu=False)
    counters = torch._dynamo.utils.counters
    counters.clear()
    ids = torch.randint(64, (2, 16))
    with uncompiled(), torch.no_grad():
        eager = model(input_ids=ids, use_cache=False).logits
    assert not counters["stats"]
    logits = model(input_ids=ids, use_cache=False).logits
    assert torch.allclose(logits, eager, atol=1e-5)
    logits.sum().backward()
    frames = counters["frames"]["ok"]
    assert frames > 0
    with uncompiled(), torch.no_grad():
        for length in range(3, 15):
            model(input_ids=torch.randint(64, (1, length)), use_cache=False)
    model(input_ids=torch.randint(64, (2, 16)), use_cache=False)
    assert counters["frames"]["ok"] == frames


@pytest.mark.slow
@pytest.mark.usefixtures("traced")
def test_rows_of_any_number_of_documents_are_compiled_once() -> None:
    """With varlen attention, which is told where documents begin."""
    model = build("llama", SHAPE)
    add_varlen(model)
    compile_blocks(model, on_gpu=False)
    counters = torch._dynamo.utils.counters
    counters.clear()
    frames = []
    for documents in range(1, 6):
        positions = torch.cat([torch.arange(3)] * documents + [torch.arange(24 - 3 * documents)])[None].expand(2, -1)
        model(input_ids=torch.randint(64, (2, 24)), position_ids=positions, use_cache=False).logits.sum().backward()
        frames.append(counters["frames"]["ok"])
    assert frames[0] > 0
    assert set(frames) == {frames[0]}


def test_a_machine_without_a_compiler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++")
    with pytest.raises(InputError, match=r"trainer.compile=true: .* C\+\+ compiler .*/nowhere/c\+\+.* Valid here: false"):
        compile_blocks(build("llama", SHAPE), on_gpu=False)


def test_a_gpu_without_triton_is_told() -> None:
    if torch.cuda.is_available():
        pytest.skip("for machines without one")
    with pytest.raises(InputError, match=r"trainer.compile=true: .*Triton.* Valid here: false"):
        compile_blocks(build("llama", SHAPE), on_gpu=True)


def test_a_model_without_blocks_is_told() -> None:
    model = build("llama", SHAPE)
    for module in model.modules():
        module._no_split_modules = None  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"trainer.compile=true: .*llama does not name its blocks"):
        compile_blocks(model, on_gpu=False)
