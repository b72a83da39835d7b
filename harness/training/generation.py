"""The generation configuration of an exported model: what generate() needs, and of the base's own what transformers writes."""

from __future__ import annotations

import logging
from typing import Any

from harness.config.checks.model import longest_context

log = logging.getLogger("harness")

MODES = ("do_sample", "num_beams")
"""What decides which of the other settings mean anything."""


def set_generation(model: Any, tokenizer: Any, stop: int | None) -> None:
    """Set stop and padding tokens, the longest text, and tokens to suppress. stop: what turns of the assistant end in."""
    generation = _valid(model.generation_config)
    own = generation.eos_token_id
    ends = [stop, *(own if isinstance(own, list) else [own]), tokenizer.eos_token_id]
    ends = list(dict.fromkeys(token for token in ends if token is not None))
    if ends:
        generation.eos_token_id = ends[0] if len(ends) == 1 else ends
        if generation.pad_token_id is None:
            generation.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
    generation.max_length = longest_context(model.config.to_dict())
    vocabulary = tokenizer.get_vocab()
    prompt = [index for token, index in vocabulary.items() if token.startswith("<|prompt_")]
    if prompt:
        generation.suppress_tokens = sorted(prompt)
    model.generation_config = generation


def _valid(given: Any) -> Any:
    """A generation configuration with what is valid of a given one.

    Several well-known models were published with settings of sampling beside greedy search, which transformers loads
    and does not save.
    """
    from transformers import GenerationConfig

    valid, left_out = GenerationConfig(), []  # type: ignore[no-untyped-call]
    settings = {key: value for key, value in given.to_diff_dict().items() if value is not None and key != "transformers_version"}
    for key in sorted(settings, key=lambda key: key not in MODES):
        before = getattr(valid, key, None)
        setattr(valid, key, settings[key])
        try:
            valid.validate(strict=True)
        except ValueError:
            setattr(valid, key, before)
            left_out.append(f"{key}={settings[key]}")
    if left_out:
        log.warning("left out of generation_config.json, where they have no effect: %s", ", ".join(left_out))
    return valid
