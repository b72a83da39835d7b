"""The teacher of a distillation: never trained, never saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.config.errors import wrong_value
from harness.config.schema import Config
from harness.models.head import refuse_indivisible_model
from harness.models.isolation import isolate_documents
from harness.models.language_model import planned_rows
from harness.models.pretrained import load_pretrained, stored_rows, tokenizer_at

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KEY = "objective.teacher"


def load_teacher(config: Config) -> PreTrainedModel:
    """objective.teacher in float32, in evaluation mode, without gradients and key-value cache.

    Raises InputError when it cannot be loaded, lets packed documents see each other, or cannot be computed in chunks where
    trainer.loss_chunk_tokens asks for them.
    """
    path = _path(config)
    model = load_pretrained(path, key=KEY, attention=config.model.attention)
    model.config.use_cache = False
    model.train(False)
    model.requires_grad_(False)
    isolate_documents(model, config, which=f"{KEY}={path}")
    if config.trainer.loss_chunk_tokens is not None:
        refuse_indivisible_model(model, f"trainer.loss_chunk_tokens={config.trainer.loss_chunk_tokens}")
    return model


def distilled_ids(config: Config, tokenizer: Any) -> int:
    """How many token ids, from 0 on, the distributions of teacher and student are compared over: those by which both mean the same token
    and for which both have rows. Later ones (padding, tokens that one of them lacks) take no part."""
    return min(
        _shared_ids(_tokens(_teachers(config)), _tokens(tokenizer)), stored_rows(_path(config), key=KEY), planned_rows(config, tokenizer)
    )


def refuse_unknown_tokens(config: Config, tokenizer: Any, largest_id: int) -> None:
    """Raise InputError if the text, whose largest token id is given, has tokens that the teacher does not know by the same ids.

    It is the student's tokenizer that makes tokens of the text. Tokens that no text has may differ.
    """
    teachers, students = _tokens(_teachers(config)), _tokens(tokenizer)
    shared, rows = _shared_ids(teachers, students), stored_rows(_path(config), key=KEY)
    if largest_id < min(shared, rows):
        return
    problem = (
        f"its tokenizer and the student's differ from id {shared:,} on ({teachers.get(shared)!r} and {students.get(shared)!r})"
        if shared <= rows
        else f"it has rows for {rows:,} tokens"
    )
    raise wrong_value(
        KEY,
        _path(config),
        f"{problem}, and the text has the token {students.get(largest_id)!r} (id {largest_id:,}); "
        "valid: a teacher that knows the tokens of the text by the same ids",
    )


def _path(config: Config) -> str:
    path = config.objective.teacher
    assert path is not None, "checked: a distillation has a teacher"
    return path


def _teachers(config: Config) -> Any:
    return tokenizer_at(_path(config), key=KEY)


def _tokens(tokenizer: Any) -> dict[int, str]:
    return {index: token for token, index in tokenizer.get_vocab().items()}


def _shared_ids(teachers: dict[int, str], students: dict[int, str]) -> int:
    """How many ids from 0 on mean the same to both: a token, or none."""
    every = {*teachers, *students}
    return min((index for index in every if teachers.get(index) != students.get(index)), default=max(every) + 1)
