"""What kinds of evaluation sets say of themselves; and a kind from outside, which nothing but a run's schema has heard of."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

from harness.config.checks.data import data_problems
from harness.config.errors import InputError
from harness.config.load import load
from harness.config.schema import Config, DataConfig, EvaluationSets, LmEvalConfig, evaluation_sections
from harness.data.tokenization import Tokenization
from harness.evaluation import kinds
from harness.evaluation.evaluation_set import Advance, Chosen, EvaluationSet, LanguageModel, Measured
from harness.evaluation.kinds import (
    RUN_METRICS,
    Kind,
    Metric,
    higher_is_better,
    logged_metrics,
    main_metrics,
    metric_of,
    most_tokens,
    shown_name,
)
from harness.models.adapters.build import build_adapted_model
from harness.models.tokenizer import load_tokenizer
from harness.report.columns import metric_columns
from harness.report.text import with_unit
from harness.runs.directory import RunDirectory
from harness.runs.record import RunRecord
from harness.runs.result import Result
from harness.training.evaluator import Evaluator
from harness.training.inputs import load_data
from tests.support.corpus import TinyText


def test_every_section_that_the_schema_marks_has_a_kind() -> None:
    assert {kind.section: kind.prefix for kind in kinds.KINDS} == evaluation_sections()


@pytest.mark.parametrize(
    ("logged", "value", "shown"),
    [
        ("val/docs/forgetting", -1.79, "val/docs/change"),
        ("val/docs/forgetting", 0.2, "val/docs/forgetting"),
        ("val/docs/loss", -1.0, "val/docs/loss"),
        ("lr", -1.0, "lr"),
    ],
)
def test_what_was_learnt_is_not_called_forgotten(logged: str, value: float, shown: str) -> None:
    assert shown_name(logged, value) == shown


@pytest.mark.parametrize(
    ("logged", "unit", "more_is_better", "is_main"),
    [
        ("val/docs/loss", "nats per token", False, True),
        ("val/docs/loss/tokens_0_63", "nats per token", False, False),
        ("val/docs/forgetting", "nats per token", False, False),
        ("val/quiz/accuracy", "share", True, True),
        ("val/quiz/answer_bits_per_byte", "bits per byte", False, False),
        ("val/docs/report/loss", "nats per token", False, True),
        ("val/docs/report/loss/tokens_0_63", "nats per token", False, False),
        ("val/mean/loss", "nats per token", False, True),
        ("generation/task/report/accuracy", "share", True, True),
    ],
)
def test_a_metric_is_known_by_its_logged_name(logged: str, unit: str, more_is_better: bool, is_main: bool) -> None:
    metric = metric_of(logged)
    assert metric is not None
    assert (metric.unit, higher_is_better(logged), main_metrics([logged]) == [logged]) == (unit, more_is_better, is_main)


@pytest.mark.parametrize("other", [*RUN_METRICS, "evaluation_seconds", "val/docs", "val/docs/lossy", "loss"])
def test_what_no_evaluation_logs_is_none_of_its_metrics(other: str) -> None:
    assert metric_of(other) is None
    assert not higher_is_better(other)


def test_what_an_evaluation_may_read_is_bounded_by_the_configuration(tiny_text: TinyText, tmp_path: Path) -> None:
    quiz = tmp_path / "quiz.jsonl"
    quiz.write_text('{"query": "the", "choices": ["river", "mill"], "gold": 0}\n')
    base = [*tiny_text.overrides, "data.validation.domain.max_tokens=300"]
    assert most_tokens(load(base).config.data) == 300 + 65_536
    assert most_tokens(load([*base, "data.max_evaluation_tokens=200"]).config.data) == 400
    with_kl = load([*base, "data.max_evaluation_tokens=200", "data.kl=true"]).config
    assert most_tokens(with_kl.data) == 800, "the base reads them, too"
    assert most_tokens(load([*base, f"data.multiple_choice.quiz.path={quiz}"]).config.data) is None


def test_tasks_by_name_need_lm_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.evaluation.lm_eval.shipped.shipped_directory", lambda: None)
    data = DataConfig(lm_eval={"own": LmEvalConfig(tasks=["gsm8k"])})
    with pytest.raises(InputError, match=r"data\.lm_eval\.own\.tasks=gsm8k: needs lm_eval, .*: pip install 'harness\[lm_eval\]'"):
        logged_metrics(data)


@dataclass(kw_only=True)
class WordsConfig:
    """An entry of data.words."""

    path: str


@dataclass(kw_only=True)
class OtherDataConfig(DataConfig):
    """The schema with one more mapping."""

    words: Annotated[dict[str, WordsConfig], EvaluationSets("words")] = field(default_factory=dict)


class Words(Kind):
    """How likely the model finds the first token that follows token 0."""

    section = "words"
    prefix = "words"
    title = "Words"
    metrics = (Metric("surprise", "nats", is_main=True), Metric("known", "share", higher_is_better=True))

    def most_tokens(self, config: Any, data: DataConfig) -> int:
        return 2

    def build(self, name: str, config: WordsConfig, tokens: Tokenization) -> EvaluationSet:
        return WordsSet(name, len(Path(config.path).read_text().split()))


class WordsSet(EvaluationSet):
    section = "words"
    fingerprint = "words of a file"
    tokens_read, size, limit, documents = 2, 1, ("data.words", "1 word"), 1

    def __init__(self, name: str, words: int) -> None:
        self.name, self.words = name, words

    def measure(self, model: LanguageModel, advance: Advance) -> Measured:
        (nats,) = model.over([1], lambda token: float(model.losses(np.array([[0]]), np.array([[token]]))[0, 0]))
        advance(1)
        return Measured({"surprise": nats, "known": 1 / self.words})

    def only(self, chosen: Chosen, name: str) -> EvaluationSet:
        return WordsSet(name, self.words)

    def summary(self) -> dict[str, int]:
        return {"words": self.words}


@pytest.fixture
def _words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "KINDS", [*kinds.KINDS, Words()])


@pytest.mark.usefixtures("_words")
def test_a_kind_from_outside_is_measured_logged_ranked_and_shown(tiny_text: TinyText, tmp_path: Path) -> None:
    """It is known to search, report and runs as those that ship are; only a schema and a kind were added."""
    path = tmp_path / "words.txt"
    path.write_text("four words in it")
    base: Config = load(tiny_text.overrides).config
    plain = {item.name: getattr(base.data, item.name) for item in fields(base.data)}
    data = OtherDataConfig(**plain, words={"mine": WordsConfig(path=str(path))})
    base.data = data

    assert logged_metrics(data)[-2:] == ["words/mine/surprise", "words/mine/known"]
    assert list(data_problems(OtherDataConfig(words={"x": WordsConfig(path="/nowhere")}), trains=False)) == [
        "data.words.x.path=/nowhere: no such file or directory"
    ]
    tokenizer = load_tokenizer(base)
    found = load_data(base, tokenizer)
    assert found.fingerprints["data.words.mine"] == "words of a file"
    values = Evaluator(base, found.evaluation).evaluate(build_adapted_model(base, tokenizer).model, step=0)
    assert values["words/mine/known"] == 0.25
    assert values["words/mine/surprise"] > 0
    assert "val/domain/loss" in values

    assert higher_is_better("words/mine/known")
    assert with_unit("words/mine/surprise") == "words/mine/surprise (nats)"
    run = RunRecord(directory=RunDirectory(tmp_path), result=Result(metrics=values))
    assert "words/mine/surprise" in metric_columns([], [run])
