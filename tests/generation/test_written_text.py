"""Text that is put together token by token."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from typing import Any

import pytest

from harness.evaluation.verifiers.tool_call import calls_in
from harness.generation.written_text import WrittenText, decoder_of, text_of
from harness.models.tokenizer import add_control_tokens

LETTERS = ["ab", "a", "b", "c", " ", "ca", "é", "日本", "\n", "bc"]


@pytest.fixture(scope="module")
def decoders(tokenizer: Any) -> list[Any]:
    """Of bytes in pairs of tokens, and of a tokenizer that drops the space at the beginning of a text."""

    def drops_space(ids: Sequence[int]) -> str:
        return "".join(f" w{token}" for token in ids).removeprefix(" ")

    return [(decoder_of(tokenizer), len(tokenizer)), (drops_space, 50)]


@pytest.mark.parametrize("which", [0, 1])
def test_text_by_token_is_the_text_of_all_tokens(decoders: list[Any], which: int) -> None:
    decode, vocabulary = decoders[which]
    numbers = random.Random(which)
    for _ in range(300):
        before = [numbers.randrange(97, 120) % vocabulary for _ in range(numbers.randrange(9))]
        ids = [numbers.randrange(vocabulary) for _ in range(numbers.randrange(1, 30))]
        text = WrittenText(decode, before)
        for token in ids:
            text.add(token)
        text.end()
        assert text.text == text_of(decode, before, ids)


def test_control_tokens_are_left_out_but_for_those_around_tool_calls(tokenizer: Any) -> None:
    """They are how a verifier knows a call."""
    known = copy.deepcopy(tokenizer)
    add_control_tokens(known, ["<tool_call>", "</tool_call>", "<|turn|>"], key="tokenizer.new_tokens")
    text = 'a<|turn|><tool_call>{"name": "b"}</tool_call>é'
    ids = known.backend_tokenizer.encode(text, add_special_tokens=False).ids
    assert decoder_of(known)([*ids, known.eos_token_id, len(known) + 5]) == text.replace("<|turn|>", "")
    calls = calls_in(decoder_of(known)(ids))
    assert calls is not None
    assert calls.total() == 1


def test_a_stop_string_is_found_wherever_tokens_divide_it() -> None:
    numbers = random.Random(0)
    found = 0
    for _ in range(2000):
        pieces = [numbers.choice(LETTERS) for _ in range(numbers.randrange(1, 12))]
        stops = tuple("".join(numbers.choice(LETTERS) for _ in range(numbers.randrange(1, 3))) for _ in range(numbers.randrange(1, 3)))
        text = WrittenText(lambda ids, pieces=pieces: "".join(pieces[index] for index in ids), (), stops)  # type: ignore[misc]
        shown = ""
        for index in range(len(pieces)):
            text.add(index)
            assert text.text[: text.shown].startswith(shown)  # what was shown stays
            shown = text.text[: text.shown]
            if text.is_stopped:
                break
        text.end()
        # As far as it was written: of two stop strings, the one that is whole first ends it.
        whole = "".join(pieces[: index + 1])
        first = min((at for stop in stops if (at := whole.find(stop)) >= 0), default=None)
        assert text.text == whole[:first]
        assert text.is_stopped == (first is not None)
        found += text.is_stopped
    assert 300 < found < 1900


def test_bytes_that_are_no_character_are_waited_for(tokenizer: Any) -> None:
    decode = decoder_of(tokenizer)
    ids = tokenizer.backend_tokenizer.encode("é", add_special_tokens=False).ids
    assert len(ids) == 2
    text = WrittenText(decode, ())
    text.add(ids[0])
    assert text.text == ""
    text.add(ids[1])
    assert text.text == "é"
    text.add(ids[0])
    text.end()
    assert text.text == "é\ufffd"
