"""Pairs of answers: from rows in all shapes to tokens, to rows, and what is dropped on the way."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.config.errors import InputError
from harness.config.schema import DataConfig, SourceConfig
from harness.data.chat.conversation import Conversation, Message
from harness.data.chat.formats import read_conversations
from harness.data.dataset import PackedRows
from harness.data.packing import pack_pairs
from harness.data.preference.formats import read_pairs
from harness.data.preference.labelled import parse_labelled_text
from harness.data.preference.pair import Pair, TextPair, parse_text_pair
from harness.data.preference.shared_prompt import shared_prompts
from harness.data.preview import preview
from harness.data.row import BadRows
from harness.data.training_data import TrainingData
from harness.schedule.batch_size import BatchSize
from tests.support.datasets import training_data

KEY = "data.sources.prefs"
WriteRows = Callable[..., Path]
USER, GOOD, BAD = ({"role": role, "content": text} for role, text in (("user", "Hi"), ("assistant", "Hello"), ("assistant", "Go away")))
PAIR = Pair(Conversation((Message("user", "Hi"),)), (Message("assistant", "Hello"),), (Message("assistant", "Go away"),))


def pairs(file: Path, *, as_text: bool = False, rejected: Any = "worst") -> list[Pair | TextPair]:
    return [document.content for document in read_pairs([file], as_text=as_text, rejected=rejected, key=KEY, bad=BadRows())]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "chosen": "Hello", "rejected": "Go away"},
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": "Hi", "chosen": [GOOD], "rejected": [BAD]},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": "Hi", "prompt_id": "1", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"question": "Hi", "system": "", "chosen": "Hello", "rejected": "Go away"},
        {"instruction": "Hi", "chosen_response": "Hello", "rejected_response": "Go away"},
        {"instruction": "Hi", "input": " ", "chosen": "Hello", "rejected": "Go away"},
        {"system": "", "input": "Hi", "chosen": "Hello", "rejected": "Go away", "rating": [9.0, 3.0]},
        {"instruction": "Hi", "input": ["unread"], "chosen": "Hello", "rejected": "Go away"},
        {"input": "raw", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": "Hi", "chosen": "Hello", "rejected": "Go away", "chosen_score": 3.0, "chosen-rating": 5.0, "rejected-rating": None},
    ],
)
def test_the_shapes_of_a_pair(write_rows: WriteRows, row: dict[str, Any]) -> None:
    assert pairs(write_rows(row)) == [PAIR]
    # Fine-tuning reads the chosen answer alone, and holds it out by the same prompt.
    [document] = read_conversations([write_rows(row)], "auto", key=KEY)
    assert document.conversation.messages == (Message("user", "Hi"), Message("assistant", "Hello"))
    assert document.identity == PAIR.identity


def test_system_message_tools_and_scores(write_rows: WriteRows) -> None:
    tool = {"name": "weather", "parameters": {}}
    row = {"system": "Be brief.", "question": "Hi", "chosen": "Hello", "rejected": "Go away", "tools": [tool], "score_chosen": 8}
    [pair] = pairs(write_rows({**row, "score_rejected": "6.5"}))
    assert isinstance(pair, Pair)
    assert pair.prompt == Conversation((Message("system", "Be brief."), Message("user", "Hi")), ({"type": "function", "function": tool},))
    assert pair.gap == 1.5


def test_what_an_instruction_is_applied_to_is_a_part_of_the_prompt(write_rows: WriteRows) -> None:
    [pair] = pairs(write_rows({"instruction": "Translate.", "input": "Bonjour", "chosen": "Hello", "rejected": "Go away"}))
    assert isinstance(pair, Pair)
    assert pair.prompt.messages == (Message("user", "Translate.\n\nBonjour"),)
    row = {"instruction": "Translate.", "input": "Bonjour"}
    assert parse_text_pair({**row, "chosen": "a", "rejected": "b"}).prompt == "Translate.\n\nBonjour"
    assert parse_labelled_text({**row, "completion": "a", "label": True}).prompt == "Translate.\n\nBonjour"


@pytest.mark.parametrize("names", [("chosen-rating", "rejected-rating"), ("chosen_avg_rating", "rejected_avg_rating")])
def test_ratings_are_scores(write_rows: WriteRows, names: tuple[str, str]) -> None:
    row = {"prompt": "Hi", "chosen": "Hello", "rejected": "Go away"}
    assert [pair.gap for pair in pairs(write_rows({**row, names[0]: 4.5, names[1]: 3}))] == [1.5]


def test_conversations_part_at_the_first_answer_that_differs(write_rows: WriteRows) -> None:
    again = {"role": "user", "content": "Again"}
    [pair] = pairs(write_rows({"chosen": [USER, GOOD, again, GOOD], "rejected": [USER, GOOD, again, BAD]}))
    assert isinstance(pair, Pair)
    assert [message.content for message in pair.prompt.messages] == ["Hi", "Hello", "Again"]
    [pair] = pairs(write_rows({"chosen": [USER, GOOD, again, GOOD], "rejected": [USER, BAD]}))
    assert isinstance(pair, Pair)
    assert [len(part) for part in (pair.prompt.messages, pair.chosen, pair.rejected)] == [1, 3, 1]


def test_several_scored_completions(write_rows: WriteRows) -> None:
    texts = [("fair", 6), ("Hello", 9.5), ("Go away", 1), ("poor", 2)]
    completions = [{"response": text, "overall_score": score, "model": "m"} for text, score in texts]
    file = write_rows({"instruction": "Hi", "completions": completions})
    [pair] = pairs(file)
    assert (pair.chosen, pair.rejected, pair.gap) == (PAIR.chosen, PAIR.rejected, 8.5)
    split = write_rows(
        {"prompt": "Hi", "completions": [text for text, _ in texts], "scores": [score for _, score in texts]}, name="b.jsonl"
    )
    assert pairs(split) == [pair]
    [drawn] = pairs(file, rejected="random")
    assert pairs(file, rejected="random") == [drawn]
    others = [write_rows({"instruction": "Hi", "completions": [*completions, {"response": f"{n}", "score": 0}]}) for n in range(1)]
    assert drawn.chosen == PAIR.chosen
    assert pairs(others[0])[0].gap == 9.5


def test_text_goes_on_from_text(write_rows: WriteRows) -> None:
    assert pairs(write_rows({"prompt": "a", "chosen": " b", "rejected": " c"}), as_text=True) == [TextPair("a", " b", " c")]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"prompt": "Hi", "chosen": "Hello"}, "no field 'rejected' or 'rejected_response'; fields there: prompt, chosen"),
        ({"chosen": "Hello", "rejected": "Go away"}, "no field 'prompt' or 'question' or 'instruction'"),
        ({"prompt": "Hi", "answer": "Hello"}, "no pair of answers (no field 'chosen' or 'chosen_response'"),
        ({"prompt": "Hi", "chosen": "Hello", "rejected": 3}, "rejected is a number; valid: a string"),
        ({"chosen": [USER, GOOD], "rejected": [BAD]}, "one of chosen and rejected begins with the assistant"),
        ({"chosen": [USER, GOOD], "rejected": [{**USER, "content": "Ho"}, BAD]}, "no prompt is the beginning of both"),
        ({"chosen": [USER, GOOD, USER, GOOD], "rejected": [USER, GOOD, {**USER, "content": "?"}, BAD]}, "part at message 3"),
        ({"prompt": "Ho", "chosen": [USER, GOOD], "rejected": [USER, BAD]}, "prompt is not in the beginning"),
        ({"prompt": "Hi", "chosen": "a", "rejected": "b", "score_chosen": "good", "score_rejected": 1}, "score_chosen is a string"),
        ({"prompt": "Hi", "completions": [{"response": "a", "score": 1}]}, "at least two completions"),
        ({"prompt": "Hi", "completions": ["a", "b"]}, "the score of completions[0] is null"),
        ({"prompt": "Hi", "completions": ["a", "b"], "scores": [1]}, "scores are not as many as completions"),
    ],
)
def test_what_is_no_pair_is_refused(write_rows: WriteRows, row: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError) as error:
        pairs(write_rows(row))
    assert problem in str(error.value)
    assert str(error.value).startswith(f"{KEY}: ")
    assert "chat.jsonl" in str(error.value)


def prepared(file: Path, tokenizer: Any, context_length: int = 64, **options: Any) -> TrainingData:
    source = SourceConfig(path=str(file), **options)
    config = DataConfig(sources={"prefs": source}, context_length=context_length, cache_dir=str(file.parent / "cache"))
    return training_data(config, tokenizer, documents="pairs")


def test_a_pair_is_two_documents_with_their_answers_trained(write_rows: WriteRows, chat_tokenizer: Any) -> None:
    file = write_rows({"prompt": "the quick", "chosen": "brown fox", "rejected": "lazy dog"})
    data = prepared(file, chat_tokenizer)
    [sample] = preview(data, chat_tokenizer, 2)
    assert [(piece.document, piece.answer) for piece in sample.pieces] == [(1, "chosen"), (1, "rejected")]
    for piece, answer in zip(sample.pieces, ("brown fox", "lazy dog"), strict=True):
        text = f"<|im_start|>user\nthe quick<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"
        assert "".join(part.text for part in piece.parts) == text
        # Not the newline behind the stop token.
        assert "".join(part.text for part in piece.parts if part.trained) == f"{answer}<|im_end|>"
    assert data.total().pairs == 1


def test_text_pairs_have_no_template_and_one_end(write_rows: WriteRows, tokenizer: Any) -> None:
    file = write_rows({"prompt": "the quick", "chosen": " brown fox", "rejected": " dog"})
    [sample] = preview(prepared(file, tokenizer, format="preference_text"), tokenizer, 1)
    texts = [[(part.text, part.trained) for part in piece.parts] for piece in sample.pieces]
    assert texts == [
        [("the quick", False), (" brown fox", True), ("<|endoftext|>", True)],
        [("the quick", False), (" dog", True), ("<|endoftext|>", True)],
    ]


def test_fine_tuning_reads_the_chosen_texts_alone(write_rows: WriteRows, tokenizer: Any) -> None:
    """Held out by the prompt, as the pairs are; and so, too, in a data-loading process."""
    row = {"prompt": "the quick", "chosen": " brown fox", "rejected": " dog"}
    file = write_rows(row, {**row, "prompt": "the"})
    source = SourceConfig(path=str(file), format="preference_text")
    config = DataConfig(sources={"prefs": source}, context_length=64, cache_dir=str(file.parent / "cache"))
    found = training_data(config, tokenizer, documents="conversations")
    [sample, _] = preview(found, tokenizer, 2)
    assert [[(part.text, part.trained) for part in piece.parts] for piece in sample.pieces] == [
        [("the quick", False), (" brown fox", True), ("<|endoftext|>", True)]
    ]
    assert sample.pieces[0].answer is None
    documents, pairs = found.sources[0].documents, prepared(file, tokenizer, format="preference_text").sources[0].documents
    assert documents.hashes.tolist() == pairs.hashes[::2].tolist()
    again = pickle.loads(pickle.dumps(documents))
    assert not again.are_answers
    assert again.offsets.tolist() == documents.offsets.tolist()


def test_pairs_that_say_nothing_are_dropped_and_counted(
    write_rows: WriteRows, chat_tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"prompt": "the quick", "chosen": "brown", "rejected": "lazy"}
    file = write_rows(
        row,
        {**row, "rejected": "brown"},
        {**row, "chosen": " "},
        {**row, "score_chosen": 3, "score_rejected": 3},
        {**row, "score_chosen": 3, "score_rejected": 2.5},
        {**row, "score_chosen": 3, "score_rejected": 2},
        {**row, "chosen": "the dog " * 30},
    )
    with caplog.at_level(logging.INFO, logger="harness"):
        data = prepared(file, chat_tokenizer, min_score_gap=1.0)
    assert data.total().pairs == 2
    assert "4 of 7 pairs are dropped: 1 with an empty answer, 1 with equal answers, 2 with tied scores" in caplog.text
    assert "1 of 3 pairs are dropped, being longer than a row of data.context_length=64" in caplog.text


def test_where_no_pair_is_left(write_rows: WriteRows, chat_tokenizer: Any) -> None:
    with pytest.raises(InputError, match=r"none of its 1 pairs is of use \(1 with equal answers\)"):
        prepared(write_rows({"prompt": "a", "chosen": "b", "rejected": "b"}), chat_tokenizer)
    with pytest.raises(InputError, match=r"every one of its 1 pairs is longer than a row of data\.context_length=8"):
        prepared(write_rows({"prompt": "a", "chosen": "b", "rejected": "c"}, name="b.jsonl"), chat_tokenizer, context_length=8)
    with pytest.raises(InputError, match=r"data\.sources: none of prefs holds pairs of answers"):
        prepared(write_rows({"prompt": "a", "completion": "b"}, name="c.jsonl"), chat_tokenizer)


@pytest.mark.parametrize("prompt", [0, 3])
def test_both_answers_of_a_pair_lie_in_one_row(prompt: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 20, size=200)
    lengths[10:12] = 0  # held out
    packing = pack_pairs(lengths, 36, prompt=prompt)
    kept = lengths.reshape(-1, 2).sum(axis=1)
    fitting = np.flatnonzero((kept > 0) & (kept + 2 * prompt <= 36))
    assert (packing.piece_document[0::2] + 1 == packing.piece_document[1::2]).all()
    assert (packing.row_offsets % 2 == 0).all()
    assert sorted((packing.piece_document[0::2] // 2).tolist()) == fitting.tolist()
    assert (packing.piece_length == lengths[packing.piece_document]).all()
    assert packing.row_positions.max() <= 36
    assert packing.documents_cut == 2 * (99 - len(fitting))


def test_a_shared_prompt_lies_in_a_row_once() -> None:
    lengths = np.random.default_rng(0).integers(6, 20, size=200)
    lengths[10:12] = 0  # held out
    shared = np.random.default_rng(1).integers(0, 6, size=100)
    packing = pack_pairs(lengths, 36, shared=shared)
    assert (packing.piece_start[0::2] == 0).all()
    assert (packing.piece_start[1::2] == shared[packing.piece_document[1::2] // 2]).all()
    assert (packing.piece_start + packing.piece_length == lengths[packing.piece_document]).all()
    assert packing.row_tokens.max() <= 36
    assert packing.tokens_given == lengths.sum() - shared.sum() + shared[5]


def test_how_much_of_a_prompt_is_shared(write_rows: WriteRows, tokenizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    """All but the token that predicts both answers."""
    rows = [
        {"prompt": "the quick brown", "chosen": " fox", "rejected": " dog"},
        {"prompt": "the", "chosen": " fox", "rejected": " dog jumps"},
        {"prompt": "", "chosen": "fox", "rejected": "dog"},
    ]
    file = write_rows(*rows)
    source = SourceConfig(path=str(file), format="preference_text")
    config = DataConfig(sources={"prefs": source}, context_length=64, share_prompt=True, cache_dir=str(file.parent / "cache"))
    with caplog.at_level(logging.INFO, logger="harness"):
        data = training_data(config, tokenizer, documents="pairs")
    prompt, one = (len(tokenizer.backend_tokenizer.encode(text).ids) for text in ("the quick brown", "the"))
    assert shared_prompts(data.sources[0].documents).tolist() == [prompt - 1, one - 1, 0]
    [row] = PackedRows(data).__getitems__([0])["position_ids"].tolist()
    ids = PackedRows(data).__getitems__([0])["input_ids"][0].tolist()
    begins = [at for at in range(1, len(row)) if row[at] != row[at - 1] + 1]
    assert sorted(row[at] for at in (0, *begins)) == sorted([0, prompt - 1, 0, one - 1, 0, 0, 0])
    at = row.index(prompt - 1, prompt)
    assert tokenizer.backend_tokenizer.decode(ids[at : at + 3]) == "n dog"
    unshared = sum(data.sources[0].documents.lengths)
    assert f"prompts are read once a pair: {prompt + one - 2} of {unshared} tokens less" in caplog.text


def test_a_batch_says_which_answers_are_in_its_rows(write_rows: WriteRows, chat_tokenizer: Any) -> None:
    """Beside rows of other documents, whose predictions weigh as much as pairs do on average."""
    rows = [{"prompt": "the", "chosen": "fox " * (1 + n % 5), "rejected": "dog " * (1 + n % 3)} for n in range(12)]
    talks = write_rows(*({"prompt": "a", "completion": "b" * n} for n in range(1, 9)), name="talks.jsonl")
    sources = {"prefs": SourceConfig(path=str(write_rows(*rows))), "talks": SourceConfig(path=str(talks), replay=True)}
    config = DataConfig(sources=sources, replay_share=0.4, context_length=64, cache_dir=str(talks.parent / "cache"))
    data = training_data(config, chat_tokenizer, documents="pairs")
    prefs = next(source for source in data.sources if source.name == "prefs")
    data = data.with_reference({"prefs": -np.arange(24.0)})
    batch = PackedRows(data).__getitems__([0, 1, 2, 3, 4, 5])
    assert 0 < batch["holds_answers"].sum() < 6
    trained = (batch["labels"] != -100).sum(dim=1)
    assert batch["answer_tokens"].sum() == trained[batch["holds_answers"]].sum()
    assert len(batch["answer_tokens"]) == len(batch["answer_reference"])
    documents = (-batch["answer_reference"]).long()
    assert (documents[1::2] == documents[0::2] + 1).all()
    upto = np.concatenate([[0], np.cumsum(np.asarray(prefs.documents.trained))])[prefs.documents.offsets]
    assert batch["answer_tokens"].tolist() == np.diff(upto)[documents].tolist()
    [weight] = data.examples_of(BatchSize((), 6), 1)
    others = int(trained[~batch["holds_answers"]].sum())
    assert weight == pytest.approx(len(documents) / 2 + others / data.tokens_an_example)
