from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.config.checks.data import data_problems
from harness.config.errors import InputError
from harness.config.schema import DataConfig, SourceConfig, ValidationConfig
from harness.data.mixture import token_shares
from harness.schedule.batch_size import BatchSize
from tests.support.datasets import domain_set, training_data

WriteJsonl = Callable[[str, Iterable[str]], Path]
Stories = Callable[[range], list[str]]


def source(weight: float = 1.0, *, replay: bool = False) -> SourceConfig:
    return SourceConfig(path="x", weight=weight, replay=replay)


def test_token_shares() -> None:
    sources = {"b": source(3), "a": source(1), "old": source(5, replay=True), "older": source(5, replay=True)}
    shares = token_shares(DataConfig(sources=sources, replay_share=0.2))
    assert list(shares) == ["a", "b", "old", "older"]
    assert shares == {"a": 0.25, "b": 0.75, "old": 0.5, "older": 0.5}
    assert token_shares(DataConfig(sources=sources)) == {"a": 0.25, "b": 0.75}
    sources |= {"b": source(0), "old": source(0, replay=True)}
    assert token_shares(DataConfig(sources=sources, replay_share=0.2)) == {"a": 1.0, "older": 1.0}


@pytest.mark.parametrize(
    ("sources", "replay_share", "message"),
    [
        ({}, 0.0, "data.sources: no source to train on"),
        ({"old": source(replay=True)}, 0.0, "data.sources: every source has .replay=true"),
        ({"docs": source(0)}, 0.0, "data.sources: every source has .replay=true or .weight=0"),
        ({"docs": source(), "old": source(0, replay=True)}, 0.1, "data.replay_share=0.1: no source has .replay=true"),
        ({"docs": source()}, 0.1, "data.replay_share=0.1: no source has .replay=true"),
    ],
)
def test_mixtures_of_nothing_are_refused(sources: dict[str, SourceConfig], replay_share: float, message: str) -> None:
    problems = data_problems(DataConfig(sources=sources, replay_share=replay_share), trains=True)
    assert any(problem.startswith(message) for problem in problems)


def test_the_drawn_tokens_have_the_shares_asked_for(config: DataConfig, tokenizer: Any) -> None:
    for packing in ("best_fit", "concat", "padded"):
        data = training_data(replace(config, packing=packing), tokenizer, seed=0)
        drawn, _ = data.order.rows(0, 4000)
        tokens = data.row_tokens(0, 4000)
        base = [source.name for source in data.sources].index("base")
        assert tokens[drawn == base].sum() / tokens.sum() == pytest.approx(0.25, abs=0.01)


def test_plans_never_exceed_their_tokens(config: DataConfig, tokenizer: Any) -> None:
    data = training_data(replace(config, packing="padded"), tokenizer, seed=0)
    for max_tokens in (200, 1000, 5000, 20_000):
        steps, after = data.steps_for(max_tokens, BatchSize((), 4))
        assert len(after) == steps
        assert after[-1] <= max_tokens < data.tokens_after(BatchSize((), 4), steps + 1)[-1]
        assert after.tolist() == [data.row_tokens(0, 4 * (step + 1)).sum() for step in range(steps)]
        assert after.tolist() == data.tokens_after(BatchSize((), 4), steps).tolist()


def test_a_plan_of_no_step_says_what_one_step_takes(config: DataConfig, tokenizer: Any) -> None:
    data = training_data(config, tokenizer, seed=0)
    first = data.tokens_after(BatchSize((), 8), 1)[0]
    with pytest.raises(InputError, match=rf"trainer\.max_tokens=20: less than one step; the first one has {first} tokens"):
        data.steps_for(20, BatchSize((), 8))


def test_held_out_documents_are_evaluated_on_and_not_trained_on(config: DataConfig, tokenizer: Any) -> None:
    config.validation["docs"] = ValidationConfig(source="docs", share=0.3, max_tokens=None)
    validation = domain_set(config, tokenizer, "docs")
    docs = {source.name: source for source in training_data(config, tokenizer, seed=0).sources}["docs"]
    trained = docs.documents.hashes[np.unique(docs.packing.piece_document)]
    assert validation.documents > 10
    assert sorted([*validation.hashes.tolist(), *trained.tolist()]) == sorted(docs.documents.hashes.tolist())


def test_the_larger_of_two_shares_is_held_out(config: DataConfig, tokenizer: Any) -> None:
    config.validation["few"] = ValidationConfig(source="docs", share=0.1)
    config.validation["many"] = ValidationConfig(source="docs", share=0.3)
    training_data(config, tokenizer, seed=0)  # would refuse a leak


def test_evaluation_does_not_depend_on_how_training_is_packed_or_mixed(config: DataConfig, tokenizer: Any) -> None:
    config.validation["general"] = ValidationConfig(source="base", share=0.2)
    sets = [
        domain_set(replace(config, packing=packing, replay_share=share), tokenizer, "general").fingerprint
        for packing, share in (("best_fit", 0.0), ("concat", 0.25), ("padded", 0.5))
    ]
    assert len(set(sets)) == 1


def test_evaluating_on_what_is_trained_is_refused(config: DataConfig, tokenizer: Any, write_jsonl: WriteJsonl, stories: Stories) -> None:
    config.validation["general"] = ValidationConfig(path=str(write_jsonl("general.jsonl", stories(range(155, 165)))))
    message = "data.sources.base: 5 of its documents are also in data.validation.general"
    with pytest.raises(InputError, match=re.escape(message)):
        training_data(config, tokenizer, seed=0)
    config.replay_share = 0.0
    training_data(config, tokenizer, seed=0)  # base is not drawn, so it may hold what is evaluated


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        (ValidationConfig(), "data.validation.v: give either .path, or .source with .share"),
        (ValidationConfig(source="docs"), "data.validation.v: give either .path, or .source with .share"),
        (ValidationConfig(source="dosc", share=0.1), "data.validation.v.source: unknown source 'dosc'. Did you mean 'docs'?"),
        (
            ValidationConfig(source="docs", share=1e-9),
            "data.validation.v.share=1e-09: holds out none of the 80 documents",
        ),
    ],
)
def test_impossible_validation_is_refused(config: DataConfig, tokenizer: Any, validation: ValidationConfig, message: str) -> None:
    config.validation["v"] = validation
    with pytest.raises(InputError, match=re.escape(message)):
        training_data(config, tokenizer, seed=0)


def test_a_source_with_no_row_left_is_refused(config: DataConfig, tokenizer: Any) -> None:
    message = "data.sources.base: none of its 60 documents is left to train on: 0 are held out for validation, 60 dropped"
    with pytest.raises(InputError, match=re.escape(message)):
        training_data(replace(config, context_length=4, overflow="drop"), tokenizer, seed=0)


def test_fingerprints_follow_the_data_and_not_the_seed(config: DataConfig, tokenizer: Any) -> None:
    original = training_data(config, tokenizer, seed=0).fingerprint
    assert training_data(config, tokenizer, seed=1).fingerprint == original
    reordered = replace(config, sources=dict(reversed(config.sources.items())))
    assert training_data(reordered, tokenizer, seed=0).fingerprint == original
    held_out = {"docs": ValidationConfig(source="docs", share=0.3)}
    changes: list[dict[str, Any]] = [
        {"packing": "concat"},
        {"overflow": "drop", "context_length": 512},
        {"context_length": 64},
        {"replay_share": 0.3},
        {"append_eos": False},
        {"validation": held_out},
    ]
    others = {training_data(replace(config, **change), tokenizer, seed=0).fingerprint for change in changes}
    assert len(others - {original}) == len(changes)


def test_statistics_add_up(config: DataConfig, tokenizer: Any) -> None:
    data = training_data(replace(config, overflow="truncate"), tokenizer, seed=0)
    by_source, total = data.statistics(), data.total()
    for name in ("tokens", "rows", "documents", "documents_cut", "bytes", "share"):
        assert asdict(total)[name] == sum(asdict(one)[name] for one in by_source.values())
    assert total.documents == 140
    assert total.share == 1
    assert total.efficiency == total.tokens / (total.rows * 32)
    given = sum(source.documents.lengths.sum() for source in data.sources)
    assert total.tokens_kept == total.tokens / given < 1
    assert total.bytes == sum(source.documents.bytes.sum() for source in data.sources)


def test_progress_names_what_is_tokenized(config: DataConfig, tokenizer: Any) -> None:
    seen: dict[str, tuple[int, int]] = {}
    training_data(config, tokenizer, seed=0, progress=lambda key, done, total: seen.update({key: (done, total)}))
    assert list(seen) == ["data.sources.base", "data.sources.docs"]
    assert all(done == total for done, total in seen.values())
