"""Scores of steps with nll: nats per token, as the model gives them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.synthesis.plan import Ask
from harness.synthesis.recipe import load_recipe
from harness.work.synth_teacher import LocalTeacher

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_it_is_the_mean_over_the_tokens_of_the_text(recipe: Callable[..., Path], tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    teacher = LocalTeacher(load_recipe(str(recipe(steps__likely={"nll": "teacher"})), []), "teacher")
    asks = [Ask("a", "the river", answer=" runs past"), Ask("b", "def", answer=" return value"), Ask("c", "the " * 40, answer=" mill")]
    lot = teacher.look_at("likely", asks)
    found = list(teacher.answer("likely", lot))
    teacher.close()
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_model)
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model)
    assert [record["id"] for record in found] == ["a", "b"]
    assert "more than the model's context of 32" in lot.refused[0]["error"]
    for ask, record in zip(asks, found, strict=False):
        ids = tokenizer(ask.prompt + str(ask.answer))["input_ids"]
        before = len(tokenizer(ask.prompt)["input_ids"])
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        wanted = -sum(float(logits[at - 1, ids[at]]) for at in range(before, len(ids))) / (len(ids) - before)
        assert record["score"] == pytest.approx(wanted, abs=1e-5)
        assert record["tokens"] == [len(ids), 0]
    assert lot.most_tokens == sum(record["tokens"][0] for record in found)
