"""Contrast pairs: what is scored of them, what is measured, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.config.errors import InputError
from harness.config.schema import ContrastConfig, DataConfig
from harness.data.labels import IGNORED
from harness.data.ragged import Int64
from harness.data.tokenization import Documents, Tokenization
from harness.evaluation.contrast_set import ContrastSet, build_contrast_set
from harness.evaluation.evaluation_set import Float64
from harness.evaluation.kinds import higher_is_better, logged_metrics, main_metrics, most_tokens
from harness.evaluation.scored_texts import ScoredTexts

ROWS = [
    {"prompt": "the lazy fox", "positive": " jumps over green hills", "negative": " falls"},
    {"prompt": "a quick dog", "positive": " jumps", "negative": " falls on a hill"},
    {"prompt": "rain on hills and", "positive": " green", "negative": " brown"},
]
Build = Callable[..., ContrastSet]


@pytest.fixture
def build(write_rows: Callable[..., Path], chat_tokenizer: Any) -> Build:
    def build(*rows: Any, data: DataConfig | None = None, documents: Documents = "texts", **config: Any) -> ContrastSet:
        tokens = Tokenization(data or DataConfig(chat_template="chatml"), chat_tokenizer, documents=documents)
        return build_contrast_set("mood", ContrastConfig(path=str(write_rows(*rows)), **config), tokens)

    return build


class ByToken:
    """Finds every token as likely as its id says: `nats(id)`."""

    batch_tokens = 32

    def __init__(self, nats: Callable[[Int64], Float64]) -> None:
        self.nats = nats

    def losses(self, input_ids: Int64, labels: Int64) -> Float64:
        return np.where(labels == IGNORED, 0.0, self.nats(labels))

    def over(self, batches: Any, measure: Any) -> Any:
        return map(measure, batches)


def scored(found: ContrastSet, tokenizer: Any) -> list[str]:
    """What is scored of each side, as text."""
    texts: dict[int, str] = {}
    for sides, _, labels in ScoredTexts(found.tokens, found.lengths, found.is_scored).batches(64):
        for side, row in zip(sides.tolist(), labels, strict=True):
            texts[side] = tokenizer.backend_tokenizer.decode(row[row != IGNORED].tolist(), skip_special_tokens=False)
    return [texts[side] for side in range(len(texts))]


def test_what_is_scored_is_the_continuation_and_nothing_else(build: Build, chat_tokenizer: Any) -> None:
    found = build(*ROWS)
    assert found.documents == 3
    assert scored(found, chat_tokenizer) == [text for both in found.completions for text in both]
    assert sorted(found.completions) == sorted((row["positive"], row["negative"]) for row in ROWS)


def test_the_margin_is_per_token_and_a_tie_counts_half(build: Build) -> None:
    found = build(*ROWS)
    # Every token of every text is equally likely: the longer one is not the less likely for it.
    assert found.measure(ByToken(lambda ids: np.ones(ids.shape)), lambda _: None).values == {"margin": 0.0, "share": 0.5}  # type: ignore[arg-type]
    measured = found.measure(ByToken(lambda ids: ids.astype(float)), lambda _: None)  # type: ignore[arg-type]
    means, begin = [], 0
    for length in found.lengths.tolist():
        part = slice(begin, begin + length)
        means.append(-float(found.tokens[part][found.is_scored[part]].mean()))
        begin += length
    margins = np.array(means[0::2]) - np.array(means[1::2])
    assert len(set(margins.tolist())) == 3
    assert measured.values == pytest.approx({"margin": margins.mean(), "share": (margins > 0).mean()}, abs=1e-12)
    assert measured.documents["margin"] == {pair: (pytest.approx(value), 1.0) for pair, value in zip(found.ids, margins, strict=True)}


def test_an_instruction_goes_before_each_prompt_and_changes_nothing_else(build: Build, chat_tokenizer: Any) -> None:
    plain, asked = build(*ROWS), build(*ROWS, instruction="and a dog while ")
    assert (asked.ids, asked.completions) == (plain.ids, plain.completions)
    assert scored(asked, chat_tokenizer) == scored(plain, chat_tokenizer)
    assert asked.fingerprint != plain.fingerprint
    decoded = chat_tokenizer.backend_tokenizer.decode(asked.tokens[: asked.lengths[0]].tolist())
    assert decoded.startswith("and a dog while ")


def test_messages_are_rendered_and_the_instruction_is_their_system_message(build: Build, chat_tokenizer: Any) -> None:
    turns = [
        {"prompt": [{"role": "user", "content": row["prompt"]}], **{side: row[side].strip() for side in ("positive", "negative")}}
        for row in ROWS
    ]
    found = build(*turns, instruction="the quick fox")
    assert all(text.removesuffix("<|im_end|>") in sum(found.completions, ()) for text in scored(found, chat_tokenizer))
    text = chat_tokenizer.backend_tokenizer.decode(found.tokens[: found.lengths[0]].tolist(), skip_special_tokens=False)
    assert text.startswith("<|im_start|>system\nthe quick fox<|im_end|>\n<|im_start|>user\n")
    asked = build(*ROWS, chat=True)
    assert build(*ROWS, documents="conversations").fingerprint == asked.fingerprint != build(*ROWS).fingerprint


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "a", "positive": "b"}, "no field 'negative'; fields there: prompt, positive; valid: prompt (a text or messages)"),
        ({"positive": "a", "negative": "b"}, "no field 'prompt'"),
        ({"prompt": "a", "positive": "fox", "negative": " fox "}, "positive and negative are equal ('fox'); valid: two that differ"),
        ({"prompt": "a", "positive": " ", "negative": "fox"}, "positive is empty; valid: a text"),
        ({"prompt": "a", "positive": ["fox"], "negative": "dog"}, "positive is an array; valid: a text"),
        ({"prompt": 3, "positive": "fox", "negative": "dog"}, "prompt is a number; valid: a text, or an array of messages"),
        ({"prompt": "", "positive": "fox", "negative": "dog"}, "the prompt becomes no token, for positive to follow"),
        ({"prompt": "a", "positive": "fox \ud800", "negative": "dog"}, "half a surrogate pair"),
        ({"prompt": [{"role": "king", "content": "a"}], "positive": "fox", "negative": "dog"}, "messages[0].role"),
        ({"prompt": [{"role": "assistant", "content": "a"}], "positive": "fox", "negative": "dog"}, "assistant"),
    ],
)
def test_bad_rows_are_refused_with_their_line(build: Build, row: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=r"^data\.contrast\.mood: .*, line 4: ") as refused:
        build(*ROWS, row)
    assert said in str(refused.value)


def test_too_few_are_refused(build: Build) -> None:
    with pytest.raises(InputError, match=r"data\.contrast\.mood: 1 contrast pairs in .*; valid: at least 2"):
        build(ROWS[0], ROWS[0])
    long = {"prompt": "a fox " * 40, "positive": "dog", "negative": "hills"}
    with pytest.raises(InputError, match=r"1 contrast pairs in .*, 1 are longer than data\.context_length=32; valid: at least 2"):
        build(ROWS[0], long, data=DataConfig(context_length=32))
    found = build(*ROWS, long, data=DataConfig(context_length=64))
    assert found.summary() == {"pairs": 3, "tokens": len(found.tokens), "left_out": 1}


def test_its_names_directions_and_bounds_are_known_before_it_is_read(write_rows: Callable[..., Path]) -> None:
    data = DataConfig(contrast={"mood": ContrastConfig(path="x.jsonl", max_pairs=3)}, context_length=64, report_share=0.5)
    logged = logged_metrics(data)
    assert logged == [
        *(f"contrast/mood/{name}" for name in ("margin", "share")),
        *(f"contrast/mood/report/{name}" for name in ("margin", "share")),
    ]
    assert main_metrics(logged[:2]) == ["contrast/mood/margin"]
    assert all(higher_is_better(name) for name in logged)
    assert most_tokens(data) == 3 * 2 * 65


def test_a_part_of_it_is_kept_for_the_report(build: Build) -> None:
    found = build(*ROWS)
    chosen, kept = found.parts(0.4)
    assert isinstance(chosen, ContrastSet)
    assert isinstance(kept, ContrastSet)
    assert (chosen.documents, kept.documents, kept.name) == (2, 1, "mood/report")
    assert not set(chosen.ids) & set(kept.ids)
    model: Any = ByToken(lambda ids: ids.astype(float))
    whole, parts = (part.measure(model, lambda _: None).documents["margin"] for part in (found, kept))
    assert parts.items() <= whole.items()
    first = build(*ROWS, max_pairs=2)
    assert first.ids == tuple(sorted(found.ids))[:2]


def test_bounded_by_the_tokens_of_an_evaluation(build: Build) -> None:
    whole = build(*ROWS)
    cut = build(*ROWS, data=DataConfig(max_evaluation_tokens=len(whole.tokens) - 1))
    assert cut.documents == 2
    with pytest.raises(InputError, match=re.escape("data.max_evaluation_tokens=3: less than the")):
        build(*ROWS, data=DataConfig(max_evaluation_tokens=3))
