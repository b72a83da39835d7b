"""A pretrained model beside the one under training, a teacher or a reference: never trained, never saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.config.errors import wrong_value
from harness.config.schema import Config
from harness.models.head import refuse_indivisible_model
from harness.models.isolation import isolate_documents
from harness.models.pretrained import load_pretrained, stored_rows, tokenizer_at

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_fixed(path: str, config: Config, *, key: str) -> PreTrainedModel:
    """The model at a path or hub name, given in the configuration's `key`, as `fixed` makes it. Raises InputError when it cannot be loaded,
    too."""
    return fixed(load_pretrained(path, key=key, attention=config.model.attention), config, which=f"{key}={path}")


def fixed(model: PreTrainedModel, config: Config, *, which: str) -> PreTrainedModel:
    """The model in evaluation mode, without gradients and key-value cache. which: its name in messages.

    Raises InputError when it lets packed documents see each other, or cannot be computed in chunks where trainer.loss_chunk_tokens asks for
    them.
    """
    model.config.use_cache = False
    model.train(False)
    model.requires_grad_(False)
    isolate_documents(model, config, which=which)
    if config.trainer.loss_chunk_tokens is not None:
        refuse_indivisible_model(model, f"trainer.loss_chunk_tokens={config.trainer.loss_chunk_tokens}")
    return model


def shared_ids(path: str, tokenizer: Any, *, key: str) -> int:
    """How many ids from 0 on mean the same to the tokenizer of the model at a path and to the run's: a token, or none."""
    return _shared(_tokens(tokenizer_at(path, key=key)), _tokens(tokenizer))


def refuse_other_ids(path: str, tokenizer: Any, largest_id: int, *, key: str, what: str) -> None:
    """Raise InputError if the text, whose largest token id is given, has tokens that the model at a path does not know by the same ids.

    It is the run's tokenizer that makes tokens of the text. Tokens that no text has may differ. what: a teacher, a reference.
    """
    its, students = _tokens(tokenizer_at(path, key=key)), _tokens(tokenizer)
    shared, rows = _shared(its, students), stored_rows(path, key=key)
    if largest_id < min(shared, rows):
        return
    problem = (
        f"its tokenizer and the student's differ from id {shared:,} on ({its.get(shared)!r} and {students.get(shared)!r})"
        if shared <= rows
        else f"it has rows for {rows:,} tokens"
    )
    raise wrong_value(
        key,
        path,
        f"{problem}, and the text has the token {students.get(largest_id)!r} (id {largest_id:,}); "
        f"valid: a {what} that knows the tokens of the text by the same ids",
    )


def _tokens(tokenizer: Any) -> dict[int, str]:
    return {index: token for token, index in tokenizer.get_vocab().items()}


def _shared(one: dict[int, str], other: dict[int, str]) -> int:
    """How many ids from 0 on mean the same to both."""
    every = {*one, *other}
    return min((index for index in every if one.get(index) != other.get(index)), default=max(every) + 1)
