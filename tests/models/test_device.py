"""What a machine cannot compute is said before anything is loaded, in the words of the configuration."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.config.errors import InputError
from harness.config.schema import ModelConfig, TrainerConfig
from harness.models.device import refuse_missing_devices
from harness.models.language_model import build_model
from harness.models.liger import liger_kernels
from harness.models.pretrained import tokenizer_at
from tests.models.test_isolation import SHAPE, build
from tests.support.corpus import TinyText

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")


@without_gpu
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"accelerator": "gpu"}, r"trainer.accelerator=gpu: this machine has no GPU .*; valid: auto, cpu"),
        ({"accelerator": "gpu", "devices": 2}, r"trainer.accelerator=gpu: "),
        ({"precision": "16-mixed"}, r"trainer.precision=16-mixed: only on a GPU.*; valid: 32-true, bf16-mixed"),
    ],
)
def test_devices_that_are_not_there(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        refuse_missing_devices(TrainerConfig(**values))


def test_ranks_on_a_cpu_are_processes_of_which_there_may_be_many() -> None:
    refuse_missing_devices(TrainerConfig(accelerator="cpu", devices=512))


def test_more_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    refuse_missing_devices(TrainerConfig(devices=2))
    with pytest.raises(InputError, match=r"trainer.devices=4: this machine has 2 GPUs"):
        refuse_missing_devices(TrainerConfig(devices=4))


@pytest.mark.skipif(importlib.util.find_spec("flash_attn") is not None, reason="for machines without flash-attn")
def test_attention_whose_library_is_missing(tiny_text: TinyText) -> None:
    tokenizer = tokenizer_at(str(tiny_text.tokenizer), key="tokenizer.path")
    with pytest.raises(InputError, match=r"model.attention=flash_attention_2: .* Valid: auto, varlen, sdpa, eager"):
        build_model(ModelConfig(attention="flash_attention_2", hidden_size=32, layers=1), tokenizer, seed=0)


@pytest.mark.skipif(importlib.util.find_spec("liger_kernel") is not None, reason="for machines without Liger")
def test_liger_that_is_not_installed() -> None:
    kernels = liger_kernels(build("llama", SHAPE), on_gpu=True)
    with pytest.raises(InputError, match=r"model.liger=true: needs liger-kernel, .*pip install 'harness\[liger\]'"), kernels:
        raise AssertionError("entered")


def test_liger_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.models.liger.find_spec", lambda name: object())
    kernels = liger_kernels(build("llama", SHAPE), on_gpu=False)
    with pytest.raises(InputError, match=r"model.liger=true: .* on a GPU only.* Valid here: false"), kernels:
        raise AssertionError("entered")


def test_what_liger_replaces_in_transformers_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Liger itself needs Triton: here another function takes the place of rotary embeddings, the way Liger's does."""
    from transformers.models.llama import modeling_llama

    before = modeling_llama.apply_rotary_pos_emb

    def patch(**_: Any) -> None:
        modeling_llama.apply_rotary_pos_emb = "Liger's"  # type: ignore[assignment]

    library = SimpleNamespace(MODEL_TYPE_TO_APPLY_LIGER_FN={"llama": patch}, _apply_liger_kernel_to_instance=patch)
    monkeypatch.setattr("harness.models.liger.find_spec", lambda name: object())
    monkeypatch.setattr("harness.models.liger.import_module", lambda name: library)
    with liger_kernels(build("llama", SHAPE), on_gpu=True):
        assert modeling_llama.apply_rotary_pos_emb == "Liger's"
    assert modeling_llama.apply_rotary_pos_emb is before
