"""trainer.gradient_checkpointing changes memory and time, and nothing else."""

from __future__ import annotations

import pytest
import torch

from harness.config.errors import InputError
from harness.models.activations import checkpoint_activations
from tests.models.test_isolation import SHAPE, build
from tests.training.conftest import NewRun
from tests.training.runs import EXACT_RESUME, assert_same_bits, final_state, rows_without_speed, train_here


@pytest.mark.parametrize("adapter", [(), ("adapter=lora", "adapter.dropout=0.2")], ids=["full", "lora"])
def test_the_same_bits_as_without_and_after_a_stop(new_run: NewRun, adapter: tuple[str, ...]) -> None:
    """With dropout in attention and adapter, packed rows and several micro-batches."""
    overrides = (*EXACT_RESUME, *adapter, "trainer.max_steps=6")
    _, plain = new_run("plain", *overrides)
    train_here(plain)
    _, parts = new_run("parts", *overrides, "trainer.gradient_checkpointing=true")
    assert train_here(parts, stop_after=3).step == 3
    assert train_here(parts).state == "complete"
    a, b = final_state(plain), final_state(parts)
    assert_same_bits(a["state_dict"], b["state_dict"])
    assert_same_bits(a["optimizer_states"], b["optimizer_states"])
    assert rows_without_speed(plain) == rows_without_speed(parts)


@pytest.mark.parametrize("frozen", [False, True])
def test_blocks_are_computed_twice(frozen: bool) -> None:
    """Whether or not their inputs have a gradient: with an adapter the embedding below them is frozen."""
    model = build("llama", SHAPE)
    if frozen:
        model.get_input_embeddings().requires_grad_(False)
    checkpoint_activations(model)
    calls = []
    model.get_decoder().layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    model(input_ids=torch.randint(64, (1, 8)), use_cache=False).logits.sum().backward()
    assert len(calls) == 2


def test_a_family_that_cannot_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("llama", SHAPE)
    monkeypatch.setattr(type(model), "supports_gradient_checkpointing", False)
    with pytest.raises(InputError, match=r"trainer.gradient_checkpointing=true: .*llama.* Valid for it: false"):
        checkpoint_activations(model)
