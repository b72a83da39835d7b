from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from harness.data.byte_bpe import train_byte_bpe
from harness.data.text_encoder import TextEncoder
from harness.data.text_files import Document

TEXTS = ["the rain in spain stays mainly in the plain"] * 5


def test_transformers_loads_it(tmp_path: Path) -> None:
    train_byte_bpe(TEXTS, 270, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.is_fast
    assert (tokenizer.eos_token, tokenizer.eos_token_id, len(tokenizer)) == ("<|endoftext|>", 0, 270)
    text = "  the plain, 漢字 and\n\tünïcode "
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    encoded = TextEncoder(tokenizer, append_eos=True).encode([Document(text, 0), Document("rain", 0)], "uint16")
    assert encoded.ids.tolist() == [*tokenizer(text)["input_ids"], 0, *tokenizer("rain")["input_ids"], 0]
    assert encoded.lengths.sum() == len(encoded.ids)


def test_the_same_texts_give_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        train_byte_bpe(TEXTS, 300, tmp_path / name)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_vocabulary_must_hold_all_bytes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 257"):
        train_byte_bpe(TEXTS, 256, tmp_path)
