"""The sweep over merges: a parameter for each ingredient, what has to be beaten first, and nothing chosen by what is reported."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.config.validate import to_plain
from harness.models.merged import ingredient_fingerprints
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.files import read_yaml, write_yaml
from harness.runs.on_report import on_report
from harness.runs.record import load_study
from harness.runs.result import Result, read_result, write_result
from harness.search.confirm import fresh_values
from harness.search.load_sweep import load_sweep
from harness.search.sweep import Sweep
from harness.search.wildcards import spelt_out
from harness.work.start_study import has_trained
from tests.merging.models import tensors, write_model
from tests.search.conftest import WriteSweep
from tests.support.command import run_harness
from tests.support.corpus import TinyText

WEIGHT = "model.merge.ingredients.{}.weight"


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What sweeps/merge.yaml leaves to the user."""
    tmp_path = tmp_path_factory.mktemp("given")
    for seed, name in enumerate(("base", "docs", "chat")):
        write_model(tmp_path / name, tensors(seed))
        (tmp_path / f"{name}.jsonl").write_text('{"text": "a b c"}\n')
    models = [f"model.merge.ingredients.{name}.path={tmp_path / name}" for name in ("docs", "chat")]
    return [f"model.merge.base={tmp_path / 'base'}", *models, *(f"data.validation.{n}.path={tmp_path}/{n}.jsonl" for n in ("docs", "chat"))]


@pytest.fixture(scope="module")
def sweep(given: list[str]) -> Sweep:
    return load_sweep("merge", [*given, "data.validation.chat.block=2"])


def test_a_study_does_not_go_on_with_another_model(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its trials could not be compared."""
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path))
    run = StudyDirectory(tmp_path / "merge").trial(0)
    run.path.mkdir(parents=True)
    assert not has_trained(sweep)
    write_yaml(run.config, to_plain(sweep.base.config))
    then = ingredient_fingerprints(sweep.base.config.model.merge)
    write_result(run, Result(state="complete", fingerprints=then))
    assert has_trained(sweep)
    write_result(run, Result(state="complete", fingerprints=then | {"model.merge.ingredients.docs": "another"}))
    with pytest.raises(InputError, match=r"model\.merge\.ingredients\.docs: it changed since .* merged it; valid: the model as it was"):
        has_trained(sweep)


def test_a_study_does_not_go_on_where_a_later_trial_merged_a_model_that_is_another_now(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the models are searched, the first trial does not tell of all."""
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    write_model(tmp_path / "other", tensors(3))
    merge = sweep.base.config.model.merge
    docs = replace(merge.ingredients["docs"], path=str(tmp_path / "other"))
    other = replace(merge, ingredients={**merge.ingredients, "docs": docs})
    for number, one in enumerate((merge, other)):
        run = StudyDirectory(tmp_path / "runs" / "merge").trial(number)
        run.path.mkdir(parents=True)
        write_yaml(run.config, to_plain(replace(sweep.base.config, model=replace(sweep.base.config.model, merge=one))))
        write_result(run, Result(state="complete", fingerprints=ingredient_fingerprints(one)))
    assert has_trained(sweep)
    shutil.rmtree(tmp_path / "other")
    write_model(tmp_path / "other", tensors(4))
    with pytest.raises(InputError, match=r"ingredients\.docs: it changed since .*1 merged it"):
        has_trained(sweep)


def test_each_ingredient_has_parameters_and_baselines_come_first(sweep: Sweep) -> None:
    keys = {parameter.key: parameter for parameter in sweep.space.parameters}
    assert {WEIGHT.format(name) for name in ("docs", "chat")} < keys.keys()
    assert keys["model.merge.ingredients.docs.density"].when == {"model.merge.method": ("ties", "dare_ties")}
    points = [(point[WEIGHT.format("docs")], point[WEIGHT.format("chat")]) for point in sweep.start.points]
    assert points == [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (0.3, 0.3), (0.7, 0.7), (1.0, 1.0)], "the mean of two is scale 0.5"
    assert {point["model.merge.method"] for point in sweep.start.points} == {"task_arithmetic"}
    assert not any("model.merge.scale" in point for point in sweep.start.points), "task_arithmetic has it at 1"
    assert sweep.start.notes == []
    config = sweep.trial_config(sweep.start.points[0])
    assert (config.trainer.max_steps, config.data.report_share) == (0, 0.5)


def test_weights_of_groups_are_those_of_their_ingredient_in_a_baseline(given: list[str]) -> None:
    groups = ["model.merge.groups.mlp.part=mlp", "space.model.merge.ingredients.*.weights.mlp={low: 0.0, high: 1.2}"]
    points = load_sweep("merge", [*given, *groups]).start.points
    assert len(points) == 6
    for point in points:
        for name in ("docs", "chat"):
            assert point[f"model.merge.ingredients.{name}.weights.mlp"] == point[WEIGHT.format(name)]


def test_a_baseline_that_the_space_lacks_is_left_out_and_that_is_said(given: list[str]) -> None:
    no_density = "~space.model.merge.ingredients.*.density"
    narrow = load_sweep("merge", [*given, "space.model.merge.ingredients.*.weight.low=0.2", no_density])
    assert len(narrow.start.points) == 4
    assert narrow.start.notes[0] == (
        "search.warm_start[0]: baselines: docs alone is left out, the space has no model.merge.ingredients.chat.weight=0.0"
    )
    fixed = load_sweep(
        "merge", [*given, "~space.model.merge.method", "model.merge.method=dare_linear", "~space.model.merge.scale", no_density]
    )
    assert fixed.start.points == []
    assert "docs alone is left out, the space has no model.merge.method=task_arithmetic" in fixed.start.notes[0]


def test_healing_is_searched_beside_the_weights(given: list[str]) -> None:
    source = given[-1].replace("data.validation.chat", "data.sources.docs")
    heal = ["space.trainer.max_steps={choices: [0, 20]}", source, "data.context_length=16"]
    sweep = load_sweep("merge", [*given, *heal])
    assert {point["trainer.max_steps"] for point in sweep.start.points} == {0}
    assert sweep.trial_config({"trainer.max_steps": 20, WEIGHT.format("docs"): 0.4}).trainer.max_steps == 20


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["constraints.val/docs/report/loss.max=2"],
            r"constraints=val/docs/report/loss: is measured on what is kept.*valid: val/docs/loss",
        ),
        (["model.merge.ingredients.docs.densty=0.5"], r"densty"),
        (["data.mean_loss=false"], r"unknown metric 'val/mean/loss'"),
    ],
)
def test_bad_questions_are_refused(given: list[str], overrides: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_sweep("merge", [*given, *overrides])


def test_baselines_are_of_merges(write_sweep: WriteSweep) -> None:
    with pytest.raises(InputError, match=r"search\.warm_start\[0\]=baselines: these are of merges and of steering; valid: model=merge, "):
        load_sweep(str(write_sweep(search={"name": "random", "warm_start": "baselines"})), [])


def test_a_confirmation_is_on_other_documents_and_with_other_masks(sweep: Sweep) -> None:
    point = sweep.start.points[0]
    assert [fresh_values(sweep, point, seed, place=place) for place, seed in enumerate((7, 8))] == [
        {"seed": 7, "data.validation.docs.block": 1, "data.validation.chat.block": 3},
        {"seed": 8, "data.validation.docs.block": 2, "data.validation.chat.block": 4},
    ]
    assert sweep.trial_config({**point, **fresh_values(sweep, point, 8, place=1)}).data.validation["docs"].block == 2


def test_a_star_stands_for_every_entry() -> None:
    base = {"a": {"x": {"w": 1}, "y": {"w": 2}}, "b": {}}
    one: dict[str, Any] = {"low": 0, "high": 1}
    assert spelt_out({"a.*.w": one, "c": one}, base) == {"a.x.w": one, "a.y.w": one, "c": one}
    assert spelt_out({"a.x.w": {"low": 5}, "a.*.w": one}, base) == {"a.x.w": {"low": 5}, "a.y.w": one}
    when = {**one, "when": {"a.*.kind": "k", "m": 1}}
    assert spelt_out({"a.*.w": when}, base)["a.y.w"]["when"] == {"a.y.kind": "k", "m": 1}
    for key in ("b.*.w", "nothing.*.w"):
        with pytest.raises(InputError, match=rf"space\.{key[0]}.*has no entries for \* to stand for"):
            spelt_out({key: one}, base)


@pytest.mark.slow
def test_a_real_study_is_judged_confirmed_and_handed_on(tiny_text: TinyText, tiny_model: Path, tmp_path: Path) -> None:
    """Two small models that were trained apart: each was made here, so that the recipe says how."""
    # Within the working directory, so that the recipe can name them.
    shutil.copytree(tiny_model, tmp_path / "base")
    for path in (tiny_text.domain, tiny_text.general):
        shutil.copyfile(path, tmp_path / path.name)
    here = TinyText(Path(tiny_text.domain.name), Path(tiny_text.general.name), Path("base"))
    train = [
        "train",
        *here.pretrained(Path("base")),
        "trainer.max_steps=3",
        "optim.lr=1e-2",
        "data.replay_share=0",
        "trainer.final_checkpoint=weights",
    ]
    for name, seed in (("one", 1), ("two", 2)):
        done = run_harness(*train, f"seed={seed}", "--dir", f"runs/{name}", cwd=tmp_path)
        assert done.rc == 0, done
    models = ["model.merge.base=base", *(f"model.merge.ingredients.{name}.path={name}" for name in ("one", "two"))]
    sets = [
        *(f"data.validation.{name}.path={path}" for name, path in (("domain", here.domain), ("general", here.general))),
        *(f"data.validation.{name}.max_tokens=300" for name in ("domain", "general")),
        "data.context_length=32",
    ]
    done = run_harness(
        "sweep", "merge", *models, *sets, "trainer=cpu", "tracking=none", "budget.trials=8", "launcher.workers=1", cwd=tmp_path
    )
    assert done.rc == 0, done
    study = load_study(StudyDirectory(tmp_path / "runs" / "merge"))
    assert [run.state for run in study.runs] == ["complete"] * 8
    assert not list((tmp_path / "runs" / "merge").rglob("*.safetensors")), "nothing is written"
    found = on_report(study)
    assert found is not None
    assert found.metric == "val/mean/report/loss"
    assert all(rival.lead is not None for rival in found.rivals)
    assert found.rivals
    assert {"model.merge.base", "model.merge.ingredients.one"} < study.runs[0].result.fingerprints.keys()

    confirm = ("confirm", "merge", "--top", "2", "--seeds", "2", "--retrain", "--json")
    confirmed = run_harness(*confirm, cwd=tmp_path)
    assert confirmed.rc == 0, confirmed
    values = [candidate["values"] for candidate in json.loads(confirmed.stdout)["candidates"]]
    assert all(len(set(one.values())) == 2 for one in values), "other documents and ingredients with each seed"
    made = StudyDirectory(tmp_path / "runs" / "merge-confirm")
    again = {path.name: RunDirectory(path) for path in (made.path / "ingredients").iterdir()}
    assert {name: read_yaml(run.config)["seed"] for name, run in again.items()} == {
        f"{name}-seed-{seed}": own + 2 * seed for name, own in (("one", 1), ("two", 2)) for seed in (1, 2)
    }, "none that an ingredient was made with, and none twice"
    merged = [read_yaml(run.config)["model"]["merge"]["ingredients"]["two"]["path"] for run in made.trials()]
    assert [Path(path).name for path in merged] == ["two-seed-1", "two-seed-1", "two-seed-2", "two-seed-2"]
    fingerprints = [read_result(run).fingerprints["model.merge.ingredients.two"] for run in made.trials()]
    assert len(set(fingerprints)) == 2
    assert read_result(study.runs[0].directory).fingerprints["model.merge.ingredients.two"] not in fingerprints
    before = {path: path.stat().st_mtime_ns for path in made.path.rglob("result.json")}
    assert run_harness(*confirm, cwd=tmp_path).stdout == confirmed.stdout
    assert before == {path: path.stat().st_mtime_ns for path in made.path.rglob("result.json")}, "nothing is done twice"
    exported = run_harness("best", "merge", "--export", "mixed", "--json", cwd=tmp_path)
    assert exported.rc == 0, exported
    assert json.loads(exported.stdout)["report"]["metric"] == "val/mean/report/loss"
    bundle = tmp_path / "conf" / "experiment" / "best" / "mixed"
    made = json.loads((bundle / "bundle.json").read_text())["ingredients"]["model.merge.ingredients.one"]["made_by"]
    assert made["config"]["seed"] == 1
    assert (bundle / "ingredients" / "one.yaml").is_file()
    assert "on documents that chose nothing" in (bundle / "README.md").read_text()

    shutil.rmtree(tmp_path / "runs" / "one")
    check = run_harness("reproduce", "mixed", "--check", cwd=tmp_path)
    assert check.rc == 2, check
    assert "model.merge.ingredients.one: one is not here" in check.stderr
    assert "without --check it is trained again" in check.stderr
    reproduced = run_harness("reproduce", "mixed", "--json", cwd=tmp_path)
    assert reproduced.rc == 0, reproduced
    assert "runs/reproduce-mixed-one, to the same bits" in reproduced.stderr
    assert json.loads(reproduced.stdout)["verdict"] == "exact"
    (tmp_path / "domain.jsonl").rename(tmp_path / "elsewhere.jsonl")
    shutil.rmtree(tmp_path / "runs" / "reproduce-mixed-one")
    lacking = run_harness("reproduce", "mixed", "data.validation.domain.path=elsewhere.jsonl", "--check", cwd=tmp_path)
    assert lacking.rc == 2, lacking
    given = ["data.validation.domain.path=elsewhere.jsonl", "data.sources.domain.path=elsewhere.jsonl"]
    reproduced = run_harness("reproduce", "mixed", *given, "--json", cwd=tmp_path)
    assert reproduced.rc == 0, reproduced
    assert "to the same bits" in reproduced.stderr
