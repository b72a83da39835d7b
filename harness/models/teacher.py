"""The teacher of a distillation: never trained, never saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.config.schema import Config
from harness.models.fixed_model import load_fixed, refuse_other_ids, shared_ids
from harness.models.language_model import planned_rows
from harness.models.pretrained import stored_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KEY = "objective.teacher"


def load_teacher(config: Config) -> PreTrainedModel:
    """objective.teacher, see `load_fixed`."""
    return load_fixed(_path(config), config, key=KEY)


def distilled_ids(config: Config, tokenizer: Any) -> int:
    """How many token ids, from 0 on, the distributions of teacher and student are compared over: those by which both mean the same token
    and for which both have rows. Later ones (padding, tokens that one of them lacks) take no part."""
    path = _path(config)
    return min(shared_ids(path, tokenizer, key=KEY), stored_rows(path, key=KEY), planned_rows(config, tokenizer))


def refuse_unknown_tokens(config: Config, tokenizer: Any, largest_id: int) -> None:
    """Raise InputError if the text, whose largest token id is given, has tokens that the teacher does not know by the same ids."""
    refuse_other_ids(_path(config), tokenizer, largest_id, key=KEY, what="teacher")


def _path(config: Config) -> str:
    path = config.objective.teacher
    assert path is not None, "checked: a distillation has a teacher"
    return path
