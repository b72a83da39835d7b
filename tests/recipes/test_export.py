"""What `harness best --export` writes: complete, and nothing of its owner's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from harness.config.load import load
from harness.config.locations import choices, groups
from harness.runs.trials_table import read_trials
from harness.search.load_sweep import load_sweep
from harness.search.sweep import Sweep
from harness.search.warm_start import resolve_points
from tests.recipes.conftest import OWNER, SECRETS, Shared

pytestmark = pytest.mark.slow


def texts(path: Path) -> str:
    """All that a file says, of a Parquet file every cell as well."""
    raw = path.read_bytes().decode("utf-8", errors="ignore")
    return raw + json.dumps(read_trials(path)) if path.suffix == ".parquet" else raw


def test_nothing_of_its_owner_is_in_any_file_of_it(shared: Shared) -> None:
    files = [path for path in [*shared.bundle.path.rglob("*"), shared.conf / "experiment/best/winner.yaml"] if path.is_file()]
    assert len(files) >= 9
    for path in files:
        found = [secret for secret in [*SECRETS, str(shared.home), "/corpora/", "/tmp/"] if secret.lower() in texts(path).lower()]
        assert not found, path


def test_nor_where_paths_were_searched_in_a_study_that_bears_its_owners_name(shared: Shared) -> None:
    study = shared.home / f"runs/{OWNER}_search"
    shutil.copytree(shared.home / "runs/question", study)
    best = json.loads(shared.harness("best", "question", "--json").stdout)
    key, mine = "data.sources.general.path", str(shared.text.general)
    sweep = yaml.safe_load((study / "sweep.yaml").read_text())
    sweep["space"] = {key: {"choices": [mine, f"{shared.home}/corp-docs2.jsonl"]}}
    sweep["base"] += [f"{parameter}={value}" for parameter, value in best["params"].items()] + ["tracking=wandb_online"]
    sweep["base"] += ["data.context_length=16", "adapter=soft_prompt", "adapter.tokens=4", "adapter.init_text=${oc.env:WORDS}"]
    for trial in sorted(study.glob("trials/*/trial.json")):
        number = int(trial.parent.name)
        path = mine if number == best["number"] or number % 2 else f"{shared.home}/corp-docs2.jsonl"
        trial.write_text(json.dumps({**json.loads(trial.read_text()), "params": {key: path}}))
        config = yaml.safe_load((trial.parent / "config.yaml").read_text())
        config["tracking"]["mode"] = "online"
        config["data"]["context_length"] = 16
        config["adapter"].update(name="soft_prompt", tokens=4, init_text=f"go on with {shared.home}/notes")
        (trial.parent / "config.yaml").write_text(yaml.safe_dump(config))
        if number == best["number"]:
            sweep["config"] = {**config, "trainer": {**config["trainer"], "threads": sweep["config"]["trainer"]["threads"]}}
    (study / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    done = shared.harness("best", study.name, "--export", "second", env={"WORDS": f"go on with {shared.home}/notes"})
    assert done.rc == 0, done
    bundle = shared.conf / "experiment/best/second"
    files = [path for path in [*bundle.rglob("*"), bundle.with_suffix(".yaml")] if path.is_file()]
    assert bundle / f"{key}.svg" in files
    for path in files:
        found = [secret for secret in [*SECRETS, str(shared.home), "/corpora/"] if secret.lower() in texts(path).lower()]
        assert not found, path
    assert "corp-docs2.jsonl" in (bundle / f"{key}.svg").read_text()


def test_the_search_would_find_what_was_planted(shared: Shared) -> None:
    """Else the test above could not fail."""
    study = shared.home / "runs/question"
    said = "".join(texts(path) for path in [study / "sweep.yaml", *study.glob("trials/*/*.json"), *study.glob("trials/*/config.yaml")])
    assert all(secret.lower() in said.lower() for secret in SECRETS)


def test_it_holds_all_that_it_takes_to_trust_it(shared: Shared) -> None:
    told = shared.bundle.read()
    best = json.loads(shared.harness("best", "question", "--json").stdout)
    assert (told.study, told.trial, told.params, told.objective) == ("question", best["number"], best["params"], best["objective"])
    assert (told.confirmed, told.interval, told.trials) == (False, None, 5)
    assert {"data", "tokenizer", "model", "data.sources.domain", "data.sources.general", "data.validation.domain"} <= set(told.fingerprints)
    assert {"python", "torch", "harness"} <= set(told.versions)
    assert told.hardware["cpu"]
    assert sum(told.importances.values()) == pytest.approx(1.0)
    rows = read_trials(shared.bundle.trials)
    assert [row["number"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["state"] for row in rows].count("failed") == 1
    assert rows[told.trial or 0]["params.optim.lr"] == told.params["optim.lr"]
    assert rows[told.trial or 0]["metrics.val/domain/loss"] == told.objective
    assert shared.bundle.rows[-1]["val/domain/loss"] == told.objective
    assert told.to_give == {
        "data.sources.domain.path": "domain.jsonl",
        "data.sources.general.path": "general.jsonl",
        "model.path": "base-30k",
    }


def test_its_card_shows_figure_commands_and_pictures(shared: Shared) -> None:
    card = (shared.bundle.path / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["tags"] == ["hyperparameters", "harness", "cpt"]
    assert "base_model" not in front  # a directory of its owner's is no model of the hub
    pasted = yaml.safe_load(card.split("```yaml")[1].split("```")[0])
    assert pasted == yaml.safe_load((shared.conf / "experiment/best/winner.yaml").read_text())
    assert "unconfirmed, one seed" in card
    assert "harness reproduce THIS_DIRECTORY" in card
    for name in ("curves.svg", "history.svg", "importances.svg", "optim.lr.svg"):
        assert f"]({name})" in card
        picture = ElementTree.parse(shared.bundle.path / name).getroot()
        assert picture.tag.endswith("svg")
        assert not list(picture.iter("{http://www.w3.org/2000/svg}script"))


def test_the_experiment_is_a_delta_that_says_how_sure_it_is(shared: Shared) -> None:
    text = (shared.conf / "experiment/best/winner.yaml").read_text()
    header = [line for line in text.splitlines() if line.startswith("#")]
    for part in ("study question: trial", "unconfirmed, one seed", "tokens in", "commit", "exported 20", "model.path=… (base-30k)"):
        assert any(part in line for line in header), part
    delta = yaml.safe_load(text)
    assert {"override /model": "pretrained"} in delta["defaults"]
    assert delta["model"] == {"path": "???"}
    assert "tracking" not in delta
    assert (shared.bundle.experiment).read_text() == text


def test_its_owner_trains_it_as_it_stands(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CONFIG_DIR", str(shared.conf))
    assert load(["experiment=best/winner"]).config.model.path == str(shared.model)


def test_a_bundle_is_no_choice_of_a_group(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CONFIG_DIR", str(shared.conf))
    assert [choice for choice in choices("experiment") if "winner" in choice] == ["best/winner"]
    assert "experiment/best/winner" not in groups()


def colleagues_sweep(shared: Shared, place: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Sweep:
    given = shared.colleague(place)
    monkeypatch.chdir(place)
    return load_sweep("conf/experiment/best/winner/sweep.yaml", [*given, *overrides], name="again")


def test_the_question_can_be_asked_again_elsewhere(shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = colleagues_sweep(shared, tmp_path, monkeypatch, "budget.trials=2")
    assert sweep.base.config.model.path == "mine/base"
    assert sweep.base.config.tracking.entity is None
    assert list(sweep.space.in_optuna({"optim.lr": 0.01})) == ["optim.lr"]


def test_a_search_begins_where_a_recipe_ended(shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = colleagues_sweep(shared, tmp_path, monkeypatch, "search=tpe", "search.warm_start=best/winner")
    told = shared.bundle.read()
    assert sweep.start.points == [told.params]
    prior = sweep.start.prior["optim.lr"]
    assert prior["mean"] == pytest.approx(told.params["optim.lr"])
    assert prior["spread"] >= 1.5
    assert any("prior of optim.lr" in line and "best/winner" in line for line in sweep.start.lines())
    off = colleagues_sweep_start(sweep, {"prior": "none"})
    assert off == [told.params]


def colleagues_sweep_start(sweep: Sweep, search: dict[str, Any]) -> list[dict[str, Any]]:
    from dataclasses import replace

    config = replace(sweep.config.search, **search)
    points, _ = resolve_points(config, sweep.space)
    return points


def test_a_single_run_is_exported_as_what_it_has_otherwise(shared: Shared, tmp_path: Path) -> None:
    trial = shared.home / "runs/question/trials/0000"
    alone = shared.home / "runs/alone"
    alone.mkdir(exist_ok=True)
    for name in ("config.yaml", "metrics.jsonl"):
        (alone / name).write_text((trial / name).read_text())
    result = json.loads((shared.bundle.path.parent.parent.parent.parent / "runs/question/trials/0000/result.json").read_text())
    (alone / "result.json").write_text(json.dumps({**result, "state": "complete", "reason": None}))
    done = shared.harness("--config-dir", tmp_path, "best", "alone", "--export", "single", "--json")
    assert done.rc == 0, done
    document = json.loads(done.stdout)
    assert document["experiment"] == "best/single"
    assert (tmp_path / "experiment/best/single/bundle.json").is_file()
    listed = json.loads(shared.harness("--config-dir", tmp_path, "recipes", "--json").stdout)["recipes"]
    assert {recipe["name"] for recipe in listed} >= {"single", "winner"}
    single = next(recipe for recipe in listed if recipe["name"] == "single")
    assert (single["study"], single["sure"], single["task"]) == (None, "unconfirmed, one seed", {"objective": "cpt", "adapter": "none"})
