"""data.preference.<name>: pairs as the yardstick of any run."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.config.errors import InputError
from harness.config.load import load
from harness.config.validate import to_plain
from harness.evaluation.preference_set import PreferenceSet
from harness.models.language_model import build_model
from harness.runs.directory import RunDirectory
from harness.runs.files import write_yaml
from harness.training.evaluation import evaluated
from harness.training.inputs import load_inputs
from tests.support import corpus
from tests.support.corpus import TinyText
from tests.training.runs import train_here

WORDS = corpus.DOMAIN_WORDS


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """80 pairs of 40 prompts."""
    rng, file = np.random.default_rng(0), tmp_path / "pairs.jsonl"
    rows = []
    for number in range(80):
        chosen, rejected = (" ".join(rng.choice(some, size=rng.integers(2, 5)).tolist()) for some in (WORDS[:5], WORDS[5:]))
        rows.append({"prompt": f"{number // 2} {WORDS[number // 2 % len(WORDS)]}", "chosen": f" {chosen}", "rejected": f" {rejected}"})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def overrides(tiny_text: TinyText, pairs: Path, tmp_path: Path) -> list[str]:
    return [
        *(one for one in tiny_text.overrides if ".domain." not in one and ".general." not in one and "replay" not in one),
        "data.context_length=64",
        "model.max_context=64",
        "trainer.batch_tokens=128",
        "objective=preference",
        f"data.sources.prefs.path={pairs}",
        "data.sources.prefs.format=preference_text",
        "data.preference.prefs.source=prefs",
        "data.preference.prefs.share=0.3",
        f"data.cache_dir={tmp_path / 'cache'}",
    ]


def preference_set(overrides: list[str]) -> PreferenceSet:
    [part] = load_inputs(load(overrides).config).evaluation
    assert isinstance(part, PreferenceSet)
    return part


def test_a_run_is_held_against_where_it_started(overrides: list[str], tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    config = load([*overrides, "trainer.max_steps=15", "optim.lr=3e-3", "trainer.evaluate_every_steps=5", "objective.kind=simpo"]).config
    write_yaml(run.config, to_plain(config))
    train_here(run)
    first, *_, last = [row for row in run.metrics.rows() if "preference/prefs/loss" in row]
    assert first["preference/prefs/loss"] == pytest.approx(math.log(2), abs=1e-12)
    assert [first[f"preference/prefs/{name}"] for name in ("accuracy", "margin_per_token", "chosen_shift", "rejected_shift")] == [
        0.5,
        0,
        0,
        0,
    ]
    assert last["preference/prefs/loss"] < 0.6
    assert last["preference/prefs/accuracy"] > 0.9
    shifts = last["preference/prefs/chosen_shift"] - last["preference/prefs/rejected_shift"]
    assert last["preference/prefs/margin_per_token"] == pytest.approx(shifts)


def test_prompts_are_held_out_with_all_their_answers(overrides: list[str], pairs: Path) -> None:
    inputs = load_inputs(load(overrides).config)
    [part] = inputs.evaluation
    assert isinstance(part, PreferenceSet)
    assert inputs.plan is not None
    [source] = inputs.plan.data.sources
    trained = set(np.asarray(source.documents.hashes[source.used]).tolist())
    assert len(part.hashes) == 2 * len(set(part.hashes.tolist()))
    assert not trained & set(part.hashes.tolist())
    assert len(source.used) // 2 + part.pairs == 80
    with pytest.raises(InputError, match=r"data\.sources\.prefs: \d+ of its documents are also in data\.preference\.same"):
        load_inputs(load([*overrides, f"data.preference.same.path={pairs}", "data.preference.same.format=preference_text"]).config)


def test_its_values_are_those_of_each_answer_alone(overrides: list[str]) -> None:
    part = preference_set(overrides)
    config = load(overrides).config
    inputs = load_inputs(config)
    model = build_model(config.model, inputs.tokenizer, seed=3)
    model.train(False)
    tokens, shifts, begin = torch.from_numpy(part.tokens.astype(np.int64)), [], 0
    assert part.reference is not None
    with torch.no_grad():
        for length, reference in zip(part.lengths.tolist(), part.reference().tolist(), strict=True):
            ids, mask = tokens[begin : begin + length], torch.from_numpy(part.trained[begin + 1 : begin + length])
            logps = model(input_ids=ids[None, :-1]).logits[0].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
            shifts.append(float(logps[mask].sum()) - reference)
            begin += length
    gains = np.array(shifts[0::2]) - np.array(shifts[1::2])
    ahead = np.sign(part.answer_tokens[0::2] - part.answer_tokens[1::2])
    assert set(ahead.tolist()) >= {1, -1}
    for batch_tokens in (64, 4096):
        with evaluated(model, batch_tokens=batch_tokens) as reading:
            values = part.measure(reading, lambda done: None).values
        assert values["loss"] == pytest.approx(np.log1p(np.exp(-0.1 * gains)).mean(), abs=1e-6)
        assert values["accuracy"] == (gains > 0).mean()
        for name, sign in (("accuracy_chosen_longer", 1), ("accuracy_rejected_longer", -1)):
            assert values[name] == pytest.approx((gains > 0)[ahead == sign].mean())
        assert values["chosen_shift"] == pytest.approx((np.array(shifts) / part.answer_tokens)[0::2].mean(), abs=1e-6)


def test_the_reference_is_part_of_what_is_measured(overrides: list[str], tmp_path: Path) -> None:
    tokenizer = next(one for one in overrides if one.startswith("tokenizer.path="))
    model = corpus.tiny_model(tmp_path / "model", Path(tokenizer.removeprefix("tokenizer.path=")), context=64)
    named = [*overrides, f"data.preference.prefs.reference={model}"]
    assert preference_set(named).fingerprint != preference_set(overrides).fingerprint
    # Trials of one study share it.
    assert preference_set([*overrides, "optim.lr=1e-5", "objective.kind=ipo"]).fingerprint == preference_set(overrides).fingerprint


def test_pairs_that_are_kept_for_the_report_have_the_same_reference(overrides: list[str]) -> None:
    config = load([*overrides, "data.report_share=0.5"]).config
    parts = load_inputs(config).evaluation
    assert [part.key for part in parts] == ["data.preference.prefs", "data.preference.prefs/report"]
    references = []
    for part in parts:
        assert isinstance(part, PreferenceSet)
        assert part.reference is not None
        references += part.reference().tolist()
    whole = preference_set(overrides).reference
    assert whole is not None
    assert sorted(references) == pytest.approx(sorted(whole().tolist()), abs=1e-4)
    with pytest.raises(InputError, match=r"^data\.preference\.prefs\.reference=nowhere"):
        load_inputs(load([*overrides, "data.report_share=0.5", "data.preference.prefs.reference=nowhere"]).config)


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        (["trainer.max_steps=0"], "data.preference.prefs.reference: required of a run that trains nothing"),
        (["data.preference.prefs.format=preference"], "data.preference.prefs.format: not beside .source"),
        (["data.preference.other.source=nope", "data.preference.other.share=0.1"], "data.preference.other.source=nope: not one of"),
        (["data.preference.other.max_pairs=3"], "data.preference.other: give either .path, or .source with .share"),
    ],
)
def test_what_does_not_go_together_is_refused(overrides: list[str], extra: list[str], problem: str) -> None:
    with pytest.raises(InputError, match=re.escape(problem)):
        load([*overrides, *extra])


def test_losses_of_a_domain_are_not_taken_from_pairs(overrides: list[str]) -> None:
    with pytest.raises(InputError, match=r"data\.validation\.v\.source=prefs: holds pairs of answers; valid: data\.preference\.v"):
        load_inputs(load([*overrides, "data.validation.v.source=prefs", "data.validation.v.share=0.1"]).config)


def test_fine_tuning_on_the_chosen_answers_leaves_the_same_prompts_out(overrides: list[str]) -> None:
    """And is held against the same set: so it can be a trial of the same study."""
    turns = [*overrides, "data.sources.prefs.format=preference", "data.chat_template=alpaca", "data.context_length=512"]
    turns += ["model.max_context=512", "trainer.batch_tokens=1024"]
    parts = []
    for objective in ("preference", "sft"):
        inputs = load_inputs(load([*turns, f"objective={objective}"]).config)
        [part] = inputs.evaluation
        assert isinstance(part, PreferenceSet)
        assert inputs.plan is not None
        [source] = inputs.plan.data.sources
        assert len(source.used) == (80 - part.pairs) * (2 if objective == "preference" else 1)
        assert not set(np.asarray(source.documents.hashes[source.used]).tolist()) & set(part.hashes.tolist())
        parts.append(part)
    assert parts[0].fingerprint == parts[1].fingerprint
