"""Evaluation sets in two parts: no document is on both sides, each part measures itself, and each document's part of a metric is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.config.checks.data import data_problems
from harness.config.errors import InputError
from harness.config.schema import DataConfig, ValidationConfig
from harness.data.tokenization import Tokenization
from harness.evaluation.build import build_evaluation_sets
from harness.evaluation.domain_loss import DomainLossSet
from harness.evaluation.kinds import logged_metrics, logging_set, mean_losses
from harness.evaluation.multiple_choice import MultipleChoiceSet
from harness.runs.report_split import DocumentsFile, is_reported, reported


class Favourite:
    """Says that token 3 has probability 1/2, and each of three others 1/6."""

    batch_tokens = 4

    def losses(self, input_ids: Any, labels: Any) -> Any:
        return np.where(labels < 0, 0.0, np.where(labels == 3, math.log(2), math.log(6)))

    def over(self, batches: Iterable[Any], measure: Callable[[Any], Any]) -> Iterator[Any]:
        return map(measure, batches)


MODEL: Any = Favourite()


def domain_set(lengths: list[int], *, context_length: int = 3) -> DomainLossSet:
    return DomainLossSet(
        name="docs",
        tokens=np.random.default_rng(0).integers(0, 4, sum(lengths)),
        lengths=np.array(lengths),
        hashes=np.arange(7, 7 + len(lengths), dtype=np.uint64),
        bytes=10 * sum(lengths),
        context_length=context_length,
        document_bytes=10.0 * np.array(lengths),
    )


def test_a_domain_in_two_parts() -> None:
    whole = domain_set([5, 2, 9, 4, 3, 6, 2])
    chosen, kept_back = whole.parts(0.4)
    assert (chosen.name, kept_back.name) == ("docs", "docs/report")
    assert isinstance(chosen, DomainLossSet)
    assert isinstance(kept_back, DomainLossSet)
    assert (chosen.lengths.tolist(), kept_back.lengths.tolist()) == ([5, 2, 4, 6, 2], [9, 3])
    assert sorted([*chosen.hashes.tolist(), *kept_back.hashes.tolist()]) == whole.hashes.tolist()
    assert (chosen.bytes, kept_back.bytes) == (190, 120)
    assert len({part.fingerprint for part in (whole, chosen, kept_back)}) == 3
    found = {part.name: part.measure(MODEL, lambda _: None) for part in (whole, chosen, kept_back)}
    of_whole = found["docs/report"].documents["loss"] | found["docs"].documents["loss"]
    for part in (chosen, kept_back):
        values, documents = found[part.name].values, found[part.name].documents["loss"]
        assert list(documents) == [f"{key:016x}" for key in part.hashes.tolist()]
        assert [size for _, size in documents.values()] == (part.lengths - 1).tolist()
        assert sum(nats for nats, _ in documents.values()) / part.predicted_tokens == pytest.approx(values["loss"], rel=1e-12)
        assert part.measure(MODEL, lambda _: None).values == values
    assert of_whole == whole.measure(MODEL, lambda _: None).documents["loss"]


def test_questions_in_two_parts() -> None:
    sequences = [[0, 1, 3], [0, 1, 1], [0, 2, 3, 3], [0, 2, 1], [0, 2, 3], [0, 3], [0, 1]]
    whole = MultipleChoiceSet(
        name="quiz",
        tokens=np.concatenate([np.array(ids) for ids in sequences]),
        lengths=np.array([len(ids) for ids in sequences]),
        scored=np.array([1, 1, 2, 1, 1, 1, 1]),
        choice_bytes=np.array([1, 1, 4, 1, 1, 2, 2]),
        first_choice=np.array([0, 2, 5, 7]),
        answers=np.array([0, 4, 6]),
        truncated=0,
        left_out=0,
        ids=("one", "two", "three"),
    )
    chosen, kept_back = whole.parts(0.5)
    first, second = chosen.measure(MODEL, lambda _: None), kept_back.measure(MODEL, lambda _: None)
    # Of the three questions the first two are answered rightly: 1/2 against 1/6; 1/2 against 1/4 and 1/6; 1/6 against 1/2.
    assert (first.values["accuracy"], second.values["accuracy"]) == (1 / 2, 1)
    assert first.documents["accuracy"] == {"one": (1, 1), "three": (0, 1)}
    assert second.documents["accuracy"] == {"two": (1, 1)}
    assert first.documents["answer_bits_per_byte"] == {"one": (pytest.approx(1), 1), "three": (pytest.approx(math.log2(6)), 2)}


@pytest.mark.parametrize(("documents", "share"), [(1, 0.5), (3, 0.2)])
def test_both_parts_need_a_document(documents: int, share: float) -> None:
    with pytest.raises(
        InputError, match=rf"data\.report_share={share}: of the {documents} documents of data\.validation\.docs both parts need"
    ):
        domain_set([4] * documents).parts(share)


def test_what_is_kept_back_has_names_of_its_own() -> None:
    plain = DataConfig(validation={"docs": ValidationConfig(path="x")}, mean_loss=True, report_share=0.5)
    names = [name for metric in ("loss", "bits_per_byte", "forgetting") for name in (f"val/docs/{metric}", f"val/docs/report/{metric}")]
    assert sorted(logged_metrics(plain)) == sorted([*names, "val/mean/loss", "val/mean/report/loss"])
    assert [is_reported(name) for name in ("val/docs/loss", "val/report/loss", "val/docs/report/loss")] == [False, False, True]
    assert reported("generation/task/pass_at/4") == "generation/task/report/pass_at/4"
    found = logging_set(plain, "val/docs/report/loss")
    assert found is not None
    assert found[0] == "data.validation.docs"
    values = {"val/a/loss": 1.0, "val/a/report/loss": 2.0, "val/b/loss": 3.0, "val/b/report/loss": 5.0, "val/b/loss/tokens_0_63": 9.0}
    assert mean_losses(values) == {"val/mean/loss": 2.0, "val/mean/report/loss": 3.5}


def test_no_set_bears_the_name_of_the_mean() -> None:
    taken = DataConfig(validation={"mean": ValidationConfig(path=__file__)}, mean_loss=True)
    assert list(data_problems(taken, trains=False)) == [
        "data.mean_loss=true: logs val/mean/…, as the set of that name does; valid: another name for the set"
    ]


def test_documents_are_read_again_and_those_of_a_mean_are_of_its_sets(tmp_path: Path) -> None:
    file = DocumentsFile(tmp_path / "documents.jsonl")
    assert file.behind("val/a/report/loss") == []
    file.append(2, {"val/a/report/loss": {"x": (1.0, 2.0)}})
    file.append(4, {"val/a/report/loss": {"x": (3.0, 2.0)}, "val/b/report/loss": {"y": (1, 1)}, "val/b/report/accuracy": {"y": (0, 1)}})
    assert file.behind("val/a/report/loss") == [{"x": (3.0, 2.0)}]
    assert file.behind("val/mean/report/loss") == [{"x": (3.0, 2.0)}, {"y": (1.0, 1.0)}]
    assert file.behind("lr") == []


def test_every_kind_is_divided(tiny_text: Any, tmp_path: Path) -> None:
    from harness.config.load import load
    from harness.models.tokenizer import load_tokenizer

    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(f'{{"id": "p{n}", "prompt": "the {n}", "answer": "{n}"}}\n' for n in range(6)))
    quiz = tmp_path / "quiz.jsonl"
    quiz.write_text("".join(f'{{"query": "the {n}", "choices": ["river", "mill"], "gold": 0}}\n' for n in range(6)))
    sets = [f"data.generation.task.path={prompts}", "data.generation.task.verifier=exact", f"data.multiple_choice.quiz.path={quiz}"]
    config = load([*tiny_text.overrides, *sets, "data.report_share=0.5", "trainer.max_steps=0"]).config
    found = build_evaluation_sets(Tokenization(config.data, load_tokenizer(config), None, documents="texts"))
    sizes = {part.name: part.documents for part in found}
    assert sizes["task"] == sizes["task/report"] == sizes["quiz"] == sizes["quiz/report"] == 3
    assert sizes["domain"] - sizes["domain/report"] in (0, 1)
    assert [part.key for part in found][:2] == ["data.validation.domain", "data.validation.domain/report"]
