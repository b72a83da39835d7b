"""Tokens for a soft prompt, which the tokenizer puts before every text."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer


def prepend_to_every_text(tokenizer: Any, names: list[str]) -> None:
    """Make the tokenizer begin every text with the tokens `names`, where it adds special tokens at all, before its own such as <s>."""
    backend = tokenizer.backend_tokenizer
    document = json.loads(backend.to_str())
    known = [(name, int(tokenizer.convert_tokens_to_ids(name))) for name in names]
    document["post_processor"] = _before(document["post_processor"], known)
    backend.post_processor = Tokenizer.from_str(json.dumps(document)).post_processor


def _before(processor: dict[str, Any] | None, known: list[tuple[str, int]]) -> dict[str, Any]:
    """A post-processor as tokenizers writes it, with the tokens (name and id) before what it makes.

    Of several templates in a sequence tokenizers would break off at a pair of texts: one that is there is added to.
    """
    if processor is None:
        return _before(EMPTY, known)
    match processor["type"]:
        case "TemplateProcessing":
            added = [{"SpecialToken": {"id": name, "type_id": 0}} for name, _ in known]
            special = {name: {"id": name, "ids": [index], "tokens": [name]} for name, index in known}
            return {
                **processor,
                "single": [*added, *processor["single"]],
                "pair": [*added, *processor["pair"]],
                "special_tokens": {**processor["special_tokens"], **special},
            }
        case "Sequence":
            parts = list(processor["processors"])
            template = next((index for index, part in enumerate(parts) if part["type"] == "TemplateProcessing"), None)
            if template is None:
                parts.append(EMPTY)
                template = len(parts) - 1
            parts[template] = _before(parts[template], known)
            return {**processor, "processors": parts}
        case _:
            return {"type": "Sequence", "processors": [processor, _before(EMPTY, known)]}


EMPTY: dict[str, Any] = {
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {},
}
"""Adds nothing."""
