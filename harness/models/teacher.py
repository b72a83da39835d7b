"""The teacher of a distillation: never trained, never saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.config.errors import InputError, wrong_value
from harness.config.schema import Config
from harness.models.head import refuse_indivisible_model
from harness.models.isolation import isolate_documents
from harness.models.pretrained import load_pretrained, tokenizer_at
from harness.models.vocabulary import vocabulary_size

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KEY = "objective.teacher"


def load_teacher(config: Config, tokenizer: Any) -> PreTrainedModel:
    """objective.teacher in float32, in evaluation mode, without gradients and key-value cache.

    Raises InputError when it cannot be loaded, has another vocabulary than the student's `tokenizer`, lets packed documents see each other,
    or cannot be computed in chunks where trainer.loss_chunk_tokens asks for them.
    """
    path = config.objective.teacher
    assert path is not None, "checked: a distillation has a teacher"
    refuse_other_vocabulary(path, tokenizer)
    model = load_pretrained(path, key=KEY, attention=config.model.attention)
    if vocabulary_size(model) < len(tokenizer):
        raise wrong_value(KEY, path, f"its vocabulary of {vocabulary_size(model)} is smaller than the tokenizer's {len(tokenizer)}")
    model.config.use_cache = False
    model.train(False)
    model.requires_grad_(False)
    isolate_documents(model, config, which=f"{KEY}={path}")
    if config.trainer.loss_chunk_tokens is not None:
        refuse_indivisible_model(model, f"trainer.loss_chunk_tokens={config.trainer.loss_chunk_tokens}")
    return model


def refuse_other_vocabulary(path: str, tokenizer: Any) -> None:
    """Raise InputError if a token has not the same id in the teacher's tokenizer and in the student's.

    It is the student's that makes tokens of the text; the teacher must only know each of them by the same id.
    """
    teachers, students = tokenizer_at(path, key=KEY).get_vocab(), tokenizer.get_vocab()
    if teachers == students:
        return
    differing = sorted(token for token in {*teachers, *students} if teachers.get(token) != students.get(token))
    raise InputError(
        f"{KEY}={path}: its tokenizer ({len(teachers)} tokens) has another vocabulary than the student's ({len(students)} tokens): "
        f"{len(differing)} tokens differ ({', '.join(map(repr, differing[:3]))}{', …' if len(differing) > 3 else ''}). "
        "Valid: a teacher with the student's tokenizer"
    )
