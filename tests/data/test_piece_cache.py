"""Tokenizing in pieces gives the ids that the tokenizer gives for the whole text, whatever the text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors, trainers

from harness.data import piece_cache
from harness.data.piece_cache import EXPRESSIONS, PieceEncoder, piece_encoder

TEXT = [
    "the cat's  hat \n\n  is, (on) the   mat.\n    def f(x):\n\treturn x1 + 22  # it's 2,000\nmore words and\nmore  of them\r\n naïve 3"
] * 2
PARTS = [
    *"aZ9 ,'(\n\t\r\u00a0\u3000é日²\x1c\x85_",
    "  ",
    "\n\n",
    " \n",
    "'s",
    "don't",
    " the",
    "\n    ",
    "<|end|>",
    "<|",
    "😀",
    " ",
    " x",
    "ing\n",
    "-\n",
    "22",
    "000",
    " (on",
]


def trained(expression: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    if expression == "ByteLevel":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        split = pre_tokenizers.Split(Regex(expression), behavior="isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=450, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


TOKENIZERS = {expression: trained(expression) for expression in ("ByteLevel", *EXPRESSIONS)}


def reference(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text).ids
    return ids if ids[-1:] == [0] else [*ids, 0]


def pieces(tokenizer: Tokenizer) -> PieceEncoder:
    found = piece_encoder(tokenizer, 0)
    assert found is not None
    return found


@pytest.mark.parametrize("expression", TOKENIZERS)
@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PARTS), max_size=14).map("".join), min_size=1, max_size=4))
def test_any_text_has_the_ids_of_the_whole(expression: str, texts: list[str]) -> None:
    tokenizer = TOKENIZERS[expression]
    flat, lengths = pieces(tokenizer).encode(texts, "uint16")
    expected = [reference(tokenizer, text) for text in texts]
    assert lengths.tolist() == [len(ids) for ids in expected]
    assert flat.tolist() == [token for ids in expected for token in ids]


def test_what_is_remembered_is_right_and_forgotten_when_it_is_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piece_cache, "MOST_PIECES", 10)
    tokenizer = TOKENIZERS["ByteLevel"]
    encoder = pieces(tokenizer)
    for text in [*TEXT, "other words", *TEXT]:
        assert encoder.encode([text], "uint16")[0].tolist() == reference(tokenizer, text)
        assert len(encoder._pieces._index) < 40


@pytest.mark.parametrize("what", ["prefix space", "unknown expression", "around", "model"])
def test_tokenizers_that_may_see_across_a_cut_are_left_alone(what: str) -> None:
    tokenizer: Any = trained(r"\S+|\s+") if what == "unknown expression" else trained("ByteLevel")
    match what:
        case "prefix space":
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        case "around":
            tokenizer.post_processor = processors.TemplateProcessing(single="<|end|> $A", special_tokens=[("<|end|>", 0)])
        case "model":
            tokenizer.model = models.WordLevel({"a": 0}, unk_token="a")
    assert piece_encoder(tokenizer, 0) is None
