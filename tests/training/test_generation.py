from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import GenerationConfig

from harness.training.generation import set_generation


def exported(context: dict[str, Any], **settings: Any) -> GenerationConfig:
    model = SimpleNamespace(
        generation_config=GenerationConfig.from_dict({"eos_token_id": 2, **settings}), config=SimpleNamespace(to_dict=lambda: context)
    )
    tokenizer = SimpleNamespace(eos_token_id=2, pad_token_id=None, get_vocab=lambda: {"a": 0, "<|prompt_0|>": 7})
    set_generation(model, tokenizer, 5)
    generation: GenerationConfig = model.generation_config
    return generation


@pytest.mark.parametrize(
    ("given", "kept", "left_out"),
    [
        ({"temperature": 0.9, "top_p": 0.6}, {}, "temperature=0.9, top_p=0.6"),
        ({"temperature": 0.0, "do_sample": False}, {"do_sample": False}, "temperature=0.0"),
        ({"top_k": 20, "temperature": 0.7, "do_sample": True}, {"do_sample": True, "temperature": 0.7, "top_k": 20}, None),
        ({"early_stopping": True, "length_penalty": 0.8, "num_beams": 1}, {"num_beams": 1}, "early_stopping=True, length_penalty=0.8"),
        ({"max_new_tokens": 64, "repetition_penalty": 1.1}, {"max_new_tokens": 64, "repetition_penalty": 1.1}, None),
    ],
)
def test_settings_that_transformers_loads_and_does_not_save(
    given: dict[str, Any], kept: dict[str, Any], left_out: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "harness"):
        generation = exported({"max_position_embeddings": 64}, **given)
    generation.validate(strict=True)
    settings = {key: value for key, value in generation.to_diff_dict().items() if key != "transformers_version"}
    own = {"eos_token_id": [5, 2], "pad_token_id": 5, "max_length": 64, "suppress_tokens": [7]}
    assert settings == {**own, **kept}
    messages = [record.getMessage() for record in caplog.records if record.name == "harness"]
    assert messages == ([] if left_out is None else [f"left out of generation_config.json, where they have no effect: {left_out}"])


@pytest.mark.parametrize(
    ("context", "longest"),
    [({"n_positions": 32}, 32), ({"max_seq_len": 48}, 48), ({"text_config": {"max_position_embeddings": 16}}, 16), ({}, None)],
)
def test_the_longest_text_of_other_families(context: dict[str, Any], longest: int | None) -> None:
    assert exported(context).max_length == longest
