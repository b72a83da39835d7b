"""What only a GPU can show; skipped where there is none, in CI too, which has none."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from harness.config.load import load_file
from harness.models.isolation import isolate_documents
from harness.models.varlen import cuda_kernel, kernel_problem, uses_varlen
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.result import read_result
from tests.models.test_isolation import SHAPE, build
from tests.support.corpus import TinyText
from tests.training.conftest import NewRun
from tests.training.runs import EXACT_RESUME, assert_same_run, final_state, train_here

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]

ON_GPU = ("trainer.accelerator=gpu", "trainer.precision=bf16-mixed", "trainer.max_steps=8", "trainer.log_every_steps=1")
TOLERANCE = 0.02
"""Of losses of about 5 nats over a few steps, between kernels that compute in bfloat16."""


def losses(run: RunDirectory) -> list[float]:
    return [row["train/loss"] for row in run.metrics.rows() if "train/loss" in row]


def trained(new_run: NewRun, name: str, *overrides: str) -> RunDirectory:
    _, run = new_run(name, *ON_GPU, *overrides)
    assert train_here(run).state == "complete"
    return run


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_kernel_of_varlen_attention_is_right(heads: int, kv_heads: int, dtype: torch.dtype) -> None:
    model = build("llama", {**SHAPE, "num_attention_heads": heads, "num_key_value_heads": kv_heads})
    assert kernel_problem(model, cuda_kernel, device="cuda", dtype=dtype) is None


def test_attention_is_varlen_by_itself_and_has_the_losses_of_masks(new_run: NewRun) -> None:
    config, _ = new_run("looked_at", *ON_GPU)
    model = build("llama", SHAPE)
    isolate_documents(model, config)
    assert uses_varlen(model)
    varlen, masked = trained(new_run, "varlen"), trained(new_run, "sdpa", "model.attention=sdpa")
    assert losses(varlen) == pytest.approx(losses(masked), abs=TOLERANCE)
    assert losses(varlen)[-1] < losses(varlen)[0]


def test_blocks_of_masks_keep_documents_apart_and_have_the_same_losses(new_run: NewRun) -> None:
    flex = trained(new_run, "flex", "model.attention=flex_attention")
    assert losses(flex) == pytest.approx(losses(trained(new_run, "sdpa", "model.attention=sdpa")), abs=TOLERANCE)


def test_compiled_blocks_have_the_same_losses(new_run: NewRun) -> None:
    compiled = trained(new_run, "compiled", "trainer.compile=true")
    assert losses(compiled) == pytest.approx(losses(trained(new_run, "plain")), abs=TOLERANCE)


@pytest.mark.skipif(find_spec("liger_kernel") is None, reason="liger-kernel is not installed")
@pytest.mark.parametrize("compiled", ["false", "true"])
def test_the_kernels_of_liger_have_the_same_losses(new_run: NewRun, compiled: str) -> None:
    """Twice in one process: the first leaves nothing behind that the second's probes, on the CPU, would stumble over."""
    liger, again = (trained(new_run, name, "model.liger=true", f"trainer.compile={compiled}") for name in ("liger", "again"))
    assert losses(again) == pytest.approx(losses(liger), abs=TOLERANCE)
    assert losses(liger) == pytest.approx(losses(trained(new_run, "plain")), abs=TOLERANCE)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true", "16-mixed"])
def test_every_precision_trains(new_run: NewRun, precision: str) -> None:
    run = trained(new_run, "run", f"trainer.precision={precision}", "optim.implementation=foreach")
    assert losses(run)[-1] < losses(run)[0]


@pytest.mark.parametrize("extra", [(), ("adapter=lora",), ("optim=muon",)], ids=["adamw", "lora", "muon"])
def test_stopped_and_resumed_the_run_ends_with_the_same_bits(new_run: NewRun, extra: tuple[str, ...]) -> None:
    """With dropout, accumulation and a mixture; attention by masks, whose kernels add up in one order."""
    overrides = (*EXACT_RESUME, *ON_GPU, "model.attention=sdpa", "trainer.max_steps=12", *extra)
    _, whole = new_run("whole", *overrides)
    train_here(whole)
    _, parts = new_run("parts", *overrides)
    assert train_here(parts, stop_after=5).step == 5
    assert train_here(parts).state == "complete"
    assert_same_run(whole, parts)


def test_a_checkpoint_of_a_gpu_goes_on_on_a_cpu(new_run: NewRun) -> None:
    _, run = new_run("run", *ON_GPU, "trainer.precision=32-true")
    assert train_here(run, stop_after=4).step == 4
    text = run.config.read_text()
    run.config.write_text(text.replace("accelerator: gpu", "accelerator: cpu"))
    assert load_file(run.config).trainer.accelerator == "cpu"
    assert train_here(run).state == "complete"
    assert all(weight.device.type == "cpu" for weight in final_state(run)["state_dict"].values())


def test_a_sweep_trains_its_trials_in_children_of_a_warm_server(tiny_text: TinyText, tmp_path: Path) -> None:
    """CUDA does not survive a fork: the server must not have touched it."""
    document = {
        "base": [*tiny_text.overrides, *ON_GPU],
        "objective": {"metric": "val/domain/loss", "direction": "minimize"},
        "space": {"optim.lr": {"low": 1e-4, "high": 1e-2, "log": True}},
        "search": "random",
        "budget": {"trials": 4},
    }
    sweep = tmp_path / "rates.yaml"
    sweep.write_text(json.dumps(document))
    command = [sys.executable, "-m", "harness", "sweep", str(sweep), "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    results = [read_result(run) for run in StudyDirectory(tmp_path / "runs" / "rates").trials()]
    assert [result.state for result in results] == ["complete"] * 4
    assert all(result.hardware["gpus"] for result in results)
