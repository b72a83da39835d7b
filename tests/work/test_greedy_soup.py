"""Greedy soups: which models stay in the mean, chosen on one part of the documents and reported on the other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.config.errors import InputError
from harness.config.schema import DataConfig, IngredientConfig, MergeConfig, ValidationConfig
from harness.runs.on_report import OnReport
from harness.runs.record import load_run
from harness.work.greedy_soup import Soup, _seen_by, greedy_soup, plan_of_all
from harness.work.kept_run import UnfinishedError
from tests.merging.models import read_model
from tests.models.test_merged import models, trained  # noqa: F401
from tests.support.command import call_harness, run_harness
from tests.support.corpus import TinyText

METRIC, REPORTED = "val/domain/loss", "val/domain/report/loss"


@pytest.mark.slow
def test_models_stay_with_which_the_mean_does_not_get_worse(
    tiny_text: TinyText,
    models: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run that learned, the same once more (the mean is as good), and a model that knows nothing."""
    run = trained(tiny_text, models, tmp_path / "runs" / "learned", "trainer.max_steps=20", "optim.lr=1e-2")
    words = [f"bad={models / 'b'}", f"one={run.path}", f"same={run.path}"]
    done = run_harness("merge", "out", *words, "--greedy", "--metric", METRIC, "--method", "linear", "--json", cwd=tmp_path)
    assert done.rc == 0, done
    said = json.loads(done.stdout)["greedy"]
    assert [(one["name"], one["kept"]) for one in said["tried"]] == [("one", True), ("same", True), ("bad", False)]
    for one in said["tried"]:
        alone = load_run(type(run)(tmp_path / "runs" / f"out-greedy-alone-{one['name']}"))
        assert one["alone"] == alone.result.metrics[METRIC]
        assert alone.result.metrics[REPORTED] != one["alone"], "half of the documents chose nothing"
    best, same, bad = said["tried"]
    assert best["mean"] == best["alone"] == same["alone"] == same["mean"] < bad["mean"]
    (ingredient, mean) = said["report"]["rivals"]
    assert (ingredient["kind"], ingredient["name"], ingredient["lead"]) == ("ingredient", "one", 0.0)
    assert (mean["kind"], mean["run"], mean["lead"] > 0) == ("mean", "out-greedy-all", True)
    found, only = read_model(tmp_path / "out"), run_harness("merge", "only", f"one={run.path}", "--method", "linear", cwd=tmp_path)
    assert only.rc == 0, only
    for name, value in read_model(tmp_path / "only").items():
        np.testing.assert_array_equal(found[name], value)
    assert f"by {METRIC}: 2 of 3 models" in (tmp_path / "out" / "README.md").read_text()

    runs = {path: (path / "result.json").stat().st_mtime_ns for path in (tmp_path / "runs").glob("out-greedy-*")}
    assert len(runs) == 6, "each alone, two means, the mean of all"
    again = greedy_soup([*words, "model.merge.method=linear"], tmp_path / "out", metric=METRIC)
    assert again.to_json() == said
    assert runs == {path: (path / "result.json").stat().st_mtime_ns for path in runs}, "nothing is measured twice"
    with pytest.raises(InputError, match=r"out-greedy-alone-bad: a run of something else; move it away"):
        greedy_soup([*words, "model.merge.method=linear", "seed=3"], tmp_path / "out", metric=METRIC)
    (tmp_path / "runs" / "out-greedy-all" / "result.json").write_text(json.dumps({"state": "failed", "reason": "no room"}))
    monkeypatch.setattr("harness.work.kept_run.continue_run", lambda run: None)
    with pytest.raises(UnfinishedError, match=r"out-greedy-all: failed: no room; valid: the same command again when the cause is removed"):
        greedy_soup([*words, "model.merge.method=linear"], tmp_path / "out", metric=METRIC)


REFUSED: dict[str, tuple[list[str], str]] = {
    "another method": (["a", "b", "--method", "karcher"], "--greedy: not with --method karcher; valid: linear, since a soup is a mean"),
    "a weight": (["a:2", "b"], "--greedy: a has a weight; valid: none"),
    "one model": (["a"], "--greedy: there is one model; valid: several, or --top K of study:NAME"),
    "nothing to measure": (["a", "b"], "valid"),
    "no such metric": (
        ["a", "b", "--metric", "val/docs/los", "data.validation.docs.path=docs.jsonl", "data.context_length=32"],
        "unknown metric 'val/docs/los'",
    ),
    "what is reported": (
        ["a", "b", "--metric", "val/docs/report/loss", "data.validation.docs.path=docs.jsonl", "data.context_length=32"],
        "--metric=val/docs/report/loss: is measured on what is kept for the report, by which nothing may be chosen; valid: val/docs/loss",
    ),
    "a dry run without anything to measure": (["a", "b", "--dry-run"], "valid"),
    "a dry run of no such metric": (
        ["a", "b", "--dry-run", "--metric", "val/docs/los", "data.validation.docs.path=docs.jsonl", "data.context_length=32"],
        "unknown metric 'val/docs/los'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_soup_is_refused_before_anything_is_measured(case: str, models: Path, tiny_text: TinyText, tmp_path: Path) -> None:  # noqa: F811
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(models / name)
    (tmp_path / "docs.jsonl").symlink_to(tiny_text.domain)
    words, wanted = REFUSED[case]
    done = call_harness("merge", "out", *words, "--greedy", cwd=tmp_path)
    assert (done.rc, "Traceback" in done.stderr) == (2, False), done
    assert wanted in done.stderr
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob("runs/*"))


def test_a_dry_run_plans_the_mean_of_all(models: Path, tiny_text: TinyText, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.chdir(models)
    plan = plan_of_all(["a", "b", f"data.validation.docs.path={tiny_text.domain}", "data.context_length=32"])
    assert [part.model for part in plan.recipe.slices[0].parts] == ["a", "b"]


def test_a_study_that_kept_nothing_for_the_report_chose_on_the_same_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the documents chose no mean; where the models were chosen on all of them, that is said."""
    docs = {"docs": ValidationConfig(path="docs.jsonl", max_tokens=100)}
    merge = MergeConfig(method="linear", ingredients={"soup": IngredientConfig(path="study:cpt"), "a": IngredientConfig(path="a")})
    for share, path, seen in ((0.0, "docs.jsonl", ("cpt",)), (0.5, "docs.jsonl", ()), (0.0, "other.jsonl", ())):
        theirs = DataConfig(validation={"other": ValidationConfig(path=path)}, report_share=share)
        sweep = SimpleNamespace(base=SimpleNamespace(config=SimpleNamespace(data=theirs)))
        monkeypatch.setattr("harness.work.greedy_soup.find_study", lambda name: SimpleNamespace(sweep=name))
        monkeypatch.setattr("harness.work.greedy_soup.thaw", lambda path, goes_on, sweep=sweep: sweep)
        assert tuple(_seen_by(merge, DataConfig(validation=docs, report_share=0.5))) == seen
    run: Any = SimpleNamespace(result=SimpleNamespace(metrics={}))
    soup = Soup(merge, "val/docs/loss", (), OnReport("val/docs/report/loss", run, 1.0, 1.1, ("mean", ""), ()))
    assert "on documents that chose nothing" in soup.lines[1]
    seen = replace(soup, seen_by=("cpt",))
    assert "on documents that did not choose between the means" in seen.lines[1]
    assert seen.lines[-1].startswith("cpt chose the models on these documents, too")
    assert seen.to_json()["seen_by"] == ["cpt"]
