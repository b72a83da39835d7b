"""What ends a text, and what is never written: by the tokenizer, and what the model says of its ends."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from harness.config.errors import wrong_value
from harness.generation.rows import Limits
from harness.generation.written_text import can_write

PROMPT_TOKENS = "<|prompt_"
"""How the tokens of an exported soft prompt begin, see `harness.models.adapters.plain.prompt_names`."""


def end_tokens(model: PreTrainedModel, tokenizer: Any, stop_token: int | None = None) -> frozenset[int]:
    """Ids that end a text: the tokenizer's end-of-text token, those of the model's generation_config.json, and what turns end in.

    Nothing else is taken from that file.
    """
    own = getattr(model.generation_config, "eos_token_id", None)
    found = [tokenizer.eos_token_id, stop_token, *(own if isinstance(own, list | tuple) else [own])]
    return frozenset(int(token) for token in found if token is not None)


def unwritable_tokens(model: PreTrainedModel, tokenizer: Any) -> list[int]:
    """Ids that the model has a row for and that are no text: those that the tokenizer lacks, and an exported soft prompt's; sorted."""
    vocabulary = tokenizer.get_vocab()
    whole: Any = model
    output = whole.get_output_embeddings()
    rows = int(model.config.get_text_config().vocab_size if output is None else output.weight.shape[0])
    written = {index for token, index in vocabulary.items() if not token.startswith(PROMPT_TOKENS)}
    return [index for index in range(rows) if index not in written]


def with_stop_tokens(tokenizer: Any, limits: Limits) -> tuple[Limits, frozenset[int]]:
    """The limits without stop strings that are control tokens, which no text shows, and the ids of those.

    Raises InputError for a stop string that no text of this tokenizer holds.
    """
    control = {token: int(tokenizer.convert_tokens_to_ids(token)) for token in tokenizer.all_special_tokens}
    for string in limits.stop:
        if not string:
            raise wrong_value("stop", repr(string), "an empty string is in every text; valid: at least one character")
        if string not in control and not can_write(tokenizer, string):
            problem = "the tokenizer cannot write it, and no text would ever end there; valid: a text that it can write"
            raise wrong_value("stop", repr(string), problem)
    others = tuple(string for string in limits.stop if string not in control)
    return Limits(limits.max_new_tokens, others), frozenset(control[string] for string in limits.stop if string in control)
