"""A direction in a model's own weights: equal to steering, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from harness.config.errors import InputError
from harness.config.schema import AdapterConfig
from harness.models.adapters.steering import Directions, add_steering, plan_steering, steering_in
from harness.models.steering.baked import bake, refuse_unequal
from harness.models.steering.extraction import random_direction
from tests.models.test_isolation import ISOLATED, RESCUED, build
from tests.models.test_steering import logits

FAMILIES = {**ISOLATED, **RESCUED}
DIRECTIONS = Directions({block: random_direction(32, draw=1, block=block) for block in range(2)}, torch.tensor([1.0, 2.0]))


def baked(family: str, shape: dict[str, Any], **adapter: Any) -> tuple[Any, Any]:
    """The model with the direction in its weights, and the steered one."""
    steering = plan_steering(AdapterConfig(name="steering", **adapter), DIRECTIONS)
    steered = build(family, shape)
    add_steering(steered, steering)
    return bake(build(family, shape).eval(), steering_in(steered, steering)), steered.eval()


@pytest.mark.parametrize("family", ["llama", "smollm3", "gpt2", "gpt_neox"])
def test_a_bias_adds_what_steering_adds(family: str, tmp_path: Path) -> None:
    found, steered = baked(family, FAMILIES[family], block=0, width=1, coefficient=-0.5)
    assert refuse_unequal(found, steered) < 1e-6
    assert float((logits(steered) - logits(build(family, FAMILIES[family]))).abs().max()) > 1e-3
    found.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(tmp_path)), logits(steered), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral", "phi3", "gpt2", "gpt_neox"])
def test_weights_without_the_direction_write_none(family: str, tied: bool, tmp_path: Path) -> None:
    shape = {**FAMILIES[family], "tie_word_embeddings": tied}
    found, steered = baked(family, shape, block=1, operation="ablate", coefficient=0.75)
    assert refuse_unequal(found, steered) < 5e-6
    assert float((logits(steered) - logits(build(family, shape))).abs().max()) > 1e-4
    found.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(tmp_path)), logits(steered), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "adapter", "why"),
    [
        ("qwen3", {}, "no setting for one"),
        ("gemma2", {}, "come"),
        ("olmo2", {"operation": "ablate"}, "comes out of a norm"),
        ("gpt_oss", {"operation": "ablate"}, "several matrices"),
        ("opt", {}, "no sum of what two"),
        ("llama", {"positions": "not_first"}, "a bias acts at every token"),
    ],
)
def test_what_would_be_another_model_is_refused(family: str, adapter: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        baked(family, FAMILIES[family], **adapter)


def test_a_difference_is_found() -> None:
    found, steered = baked("llama", FAMILIES["llama"], block=1, coefficient=0.5)
    with torch.no_grad():
        found.model.layers[1].mlp.down_proj.bias.mul_(1.01)
    with pytest.raises(InputError, match=r"not for this model \(llama\): .* of their range; valid for it: --format vector"):
        refuse_unequal(found, steered)
