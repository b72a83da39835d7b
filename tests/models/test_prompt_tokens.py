"""A soft prompt's tokens come before every text, whatever the tokenizer puts there itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import processors
from transformers import AutoTokenizer

from harness.models.adapters.plain import add_prompt_tokens, prompt_names
from harness.models.adapters.prompt_tokens import prepend_to_every_text
from tests.support.corpus import TinyText

TEMPLATE = processors.TemplateProcessing(single="a $A", pair="a $A a $B:1", special_tokens=[("a", 7)])


@pytest.mark.parametrize(
    ("own", "first"),
    [
        (None, []),
        (processors.ByteLevel(trim_offsets=False), []),
        (TEMPLATE, [7]),
        (processors.Sequence([processors.ByteLevel(trim_offsets=False), TEMPLATE]), [7]),
        (processors.Sequence([processors.ByteLevel(trim_offsets=False)]), []),
    ],
    ids=["none", "bytes", "template", "bytes and template", "sequence"],
)
def test_before_every_text_and_pair(tiny_text: TinyText, tmp_path: Path, own: Any, first: list[int]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_text.tokenizer)
    plain, other = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("some text", "more"))
    if own is not None:
        tokenizer.backend_tokenizer.post_processor = own
    names = prompt_names(tokenizer, 2)
    prompt = add_prompt_tokens(tokenizer, 2)
    prepend_to_every_text(tokenizer, names)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("some text")["input_ids"] == [*prompt, *first, *plain]
    assert loaded("some text", "more")["input_ids"] == [*prompt, *first, *plain, *first, *other]
    assert loaded("some text", add_special_tokens=False)["input_ids"] == plain
