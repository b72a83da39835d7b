"""adapter=steering in runs: what is evaluated, written, trained and exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from harness.config.load import load
from harness.config.schema import AdapterConfig, Config
from harness.generation.rows import Draw, Limits, Prompt
from harness.models.adapters.build import build_adapted_model
from harness.models.adapters.steering import steering_vectors
from harness.models.steering.vector_file import VectorSettings, read_vector, vector_fingerprint, write_vector
from harness.models.tokenizer import load_tokenizer
from harness.runs.result import read_result
from harness.training import steering as steering_module
from harness.training.export import export
from harness.training.steering import directions_of, steering_fingerprints
from harness.training.writer import reading, writing
from harness.work.evaluate import evaluation_of
from harness.work.start_run import start_run
from tests.support import corpus
from tests.support.corpus import TinyText
from tests.training.conftest import NewRun
from tests.training.runs import train_here


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    words, file = corpus.DOMAIN_WORDS, tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"{n} {words[n]}", "positive": f" {words[n - 1]} river", "negative": f" {words[n - 2]} list"} for n in range(8)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def own(tiny_text: TinyText, tiny_model: Path, pairs: Path, tmp_path: Path) -> list[str]:
    """A steered run; its cache is its own."""
    return [
        *tiny_text.pretrained(tiny_model),
        "adapter=steering",
        f"adapter.pairs={pairs}",
        "adapter.block=0",
        f"data.cache_dir={tmp_path / 'cache'}",
    ]


def losses(metrics: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name.endswith("/loss") and name.startswith("val/")}


def evaluated(what: str | Path, overrides: list[str], directory: Path) -> dict[str, Any]:
    done = start_run(evaluation_of(str(what), overrides).config, directory=directory, show_progress=False)
    assert done is not None
    assert done.code == 0
    return read_result(done.run).metrics


def test_a_run_without_steps_evaluates_the_steered_model(
    own: list[str], tiny_text: TinyText, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = evaluated(tiny_model, tiny_text.pretrained(tiny_model), tmp_path / "base")
    zero = evaluated(tiny_model, [*own, "adapter.coefficient=0"], tmp_path / "zero")
    assert losses(zero) == losses(base)
    # Extraction is done once, for all that may be asked of it.
    monkeypatch.setattr(steering_module, "extract", lambda *args, **kwargs: pytest.fail("extracted again"))
    kinds = {
        "block": ["adapter.block=1"],
        "pca": ["adapter.method=pca"],
        "answer": ["adapter.reading=answer"],
        "random": ["adapter.method=random", "adapter.draw=1"],
        "ablated": ["adapter.operation=ablate"],
        "first": ["adapter.positions=not_first"],
        "plain": [],
    }
    found = {name: losses(evaluated(tiny_model, [*own, *more], tmp_path / name)) for name, more in kinds.items()}
    distinct = [losses(base), *found.values()]
    assert all(one != other for index, one in enumerate(distinct) for other in distinct[:index])


def test_texts_in_batches_are_those_of_each_prompt_alone(own: list[str], tiny_model: Path) -> None:
    config = evaluation_of(str(tiny_model), [*own, "adapter.coefficient=2", "sampling=temperature", "sampling.temperature=0.02"]).config
    tokenizer = load_tokenizer(config)
    texts = [" ".join(corpus.GENERAL_WORDS[: n + 1]) for n in range(4)]
    rows = [Draw(Prompt(str(n), text, tuple(tokenizer(text)["input_ids"])), 0) for n, text in enumerate(texts)]
    found: list[dict[str, str]] = []
    for positions in ("all", "not_first", "answer", "prompt"):
        config.adapter.positions = positions  # type: ignore[assignment]
        with writing(config, tokenizer) as engine:
            assert engine.way == "own_mask"
            together = {text.id: text.text for text in engine.write(rows, Limits(8))}
            alone = {text.id: text.text for row in rows for text in engine.write([row], Limits(8))}
        assert together == alone
        found.append(together)
    every, _, answer, prompt = found
    assert answer not in (every, prompt)
    config.adapter.coefficient = 0.0
    with writing(config, tokenizer) as engine:
        assert {text.id: text.text for text in engine.write(rows, Limits(8))} not in found


@pytest.mark.parametrize("positions", ["all", "not_first", "answer", "prompt"])
def test_what_is_written_is_what_is_scored(own: list[str], tiny_model: Path, positions: str) -> None:
    """An evaluation set that reads a text after its prompt meets the model that wrote it."""
    config = evaluation_of(str(tiny_model), [*own, "adapter.coefficient=2", f"adapter.positions={positions}", "sampling=greedy"]).config
    tokenizer = load_tokenizer(config)
    text = " ".join(corpus.GENERAL_WORDS[:3])
    prompt = tuple(tokenizer(text)["input_ids"])
    with reading(config, tokenizer) as model:
        (written,) = model.engine.write([Draw(Prompt("one", text, prompt), 0)], Limits(8))
        ids = np.array([[*prompt, *written.token_ids]])
        labels = np.where(np.arange(ids.shape[1] - 1) >= len(prompt) - 1, ids[:, 1:], -100)
        _, hits = model.losses_and_hits(ids[:, :-1], labels)
    assert hits[labels != -100].all()


@pytest.mark.slow
def test_a_vector_is_trained_over_a_frozen_model(own: list[str], new_run: NewRun, tiny_model: Path, tmp_path: Path) -> None:
    more = ["adapter.coefficient=0", "trainer.max_steps=6", "optim.lr=3e-2", "adapter.width=1"]
    config, run = new_run("trained", *own, *more)
    train_here(run)
    rows = run.metrics.rows()
    assert losses(rows[-1])["val/domain/loss"] < losses(rows[0])["val/domain/loss"]
    last = evaluated(run.path, [], tmp_path / "again")
    assert losses(last) == losses(rows[-1])
    # What is handed on is what was evaluated.
    export(run, tmp_path / "vector", adapter=True)
    _, settings = read_vector(tmp_path / "vector")
    assert settings.trained
    assert set(settings.coefficients) == {0, 1}
    of_file = [one for one in own if not one.startswith(("adapter.pairs", "adapter.block"))] + [f"adapter.vector={tmp_path / 'vector'}"]
    assert losses(evaluated(tiny_model, of_file, tmp_path / "file")) == pytest.approx(losses(last), abs=1e-5)
    export(run, tmp_path / "baked")
    ids = torch.tensor([[5, 9, 12, 7, 3]])
    tokenizer = load_tokenizer(config)
    steered = build_adapted_model(load([*of_file]).config, tokenizer, directions_of(load([*of_file]).config, tokenizer)).model.eval()
    baked = AutoModelForCausalLM.from_pretrained(tmp_path / "baked").eval()
    with torch.no_grad():
        torch.testing.assert_close(baked(input_ids=ids).logits, steered(input_ids=ids).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_pairs_of_answers_train_a_vector(own: list[str], new_run: NewRun, tmp_path: Path, pairs: Path) -> None:
    """Pairwise likelihood, as BiPO has it (arXiv 2406.00045): the objective of preferences, against the model without the vector."""
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    answers = [{"prompt": row["prompt"], "chosen": row["positive"], "rejected": row["negative"]} for row in rows]
    for name, some in (("trained", answers[:4]), ("judged", answers[4:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    plain = [one for one in own if ".domain." not in one and ".general." not in one and "replay" not in one]
    data = [f"data.sources.prefs.path={tmp_path / 'trained.jsonl'}", "data.sources.prefs.format=preference_text"]
    data.append(f"data.preference.prefs.path={tmp_path / 'judged.jsonl'}")
    more = ["objective=preference", "data.preference.prefs.format=preference_text", "adapter.coefficient=0", "optim.lr=3e-2"]
    _, run = new_run("preferred", *plain, *data, *more, "trainer.max_steps=8", "data.max_epochs=100")
    train_here(run)
    found = run.metrics.rows()
    assert found[0]["preference/prefs/loss"] == pytest.approx(0.6931, abs=1e-3)
    # Of pairs that it was not trained on.
    assert found[-1]["preference/prefs/loss"] < 0.69


def test_a_run_without_steps_is_exported(own: list[str], new_run: NewRun, tmp_path: Path) -> None:
    config, run = new_run("steered", *own, "trainer.max_steps=0", "adapter.coefficient=-0.5")
    assert start_run(config, directory=tmp_path / "run", show_progress=False) is not None
    run = type(run)(tmp_path / "run")
    export(run, tmp_path / "baked")
    tokenizer = load_tokenizer(config)
    steered = build_adapted_model(config, tokenizer, directions_of(config, tokenizer)).model.eval()
    assert list(steering_vectors(steered)) == [0]
    ids = torch.tensor([[5, 9, 12, 7, 3]])
    baked = AutoModelForCausalLM.from_pretrained(tmp_path / "baked").eval()
    with torch.no_grad():
        torch.testing.assert_close(baked(input_ids=ids).logits, steered(input_ids=ids).logits, rtol=1e-4, atol=1e-5)
    export(run, tmp_path / "vector", adapter=True)
    vectors, settings = read_vector(tmp_path / "vector")
    assert (sorted(vectors), settings.coefficients, settings.trained) == ([0, 1], {0: pytest.approx(-0.5)}, False)


@pytest.mark.parametrize(
    ("own", "given", "is_shared"),
    [
        ({0: 0.1, 1: 0.3}, {"coefficient": 0.5}, True),
        ({0: 0.1, 1: 0.3}, {}, False),
        ({0: 0.1, 1: 0.3}, {"coefficient": 0.5, "block": 1}, False),
        ({0: 0.1, 1: 0.3}, {"coefficient": 0.5, "width": 1}, False),
        ({1: 0.3}, {"coefficient": 0.5}, False),
    ],
)
def test_what_a_coefficient_means_is_in_the_fingerprint(
    tmp_path: Path, own: dict[int, float], given: dict[str, Any], is_shared: bool
) -> None:
    """Where it is shared out among blocks it was the strongest's alone before: a run begun then must not go on."""
    settings = VectorSettings("m", "f", "mean_difference", "last", "add", "all", own, [1.0] * 2, 1, None, [1.0] * 2, [0.0] * 2)
    write_vector(tmp_path, {0: torch.ones(4), 1: torch.ones(4)}, settings)
    config = Config(adapter=AdapterConfig(name="steering", vector=str(tmp_path), **given))
    found, plain = steering_fingerprints(config, None)["adapter.vector"], vector_fingerprint(tmp_path)
    assert (found != plain) == is_shared
    assert len(found) == len(plain)
