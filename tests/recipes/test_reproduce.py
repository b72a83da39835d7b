"""`harness reproduce`: from a bundle alone, to the last bit; and what it says where something differs."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest

from harness.runs.files import read_yaml
from tests.recipes.conftest import Shared
from tests.support.command import call_harness, run_harness
from tests.support.corpus import documents, write_jsonl

pytestmark = pytest.mark.slow


def test_a_colleague_gets_the_same_bits_from_the_bundle_alone(shared: Shared, tmp_path: Path) -> None:
    """Another directory, another home, files under other names, one's own configuration directory: no study, no runs of its owner."""
    given = shared.colleague(tmp_path)
    (tmp_path / "conf").rename(tmp_path / "from-a-colleague")
    arguments = ["--config-dir", "from-a-colleague", "reproduce", "winner", *given, "--json"]
    done = run_harness(*arguments, cwd=tmp_path, env={"HOME": str(tmp_path), "HARNESS_CACHE": str(tmp_path / "cache")})
    assert done.rc == 0, done
    document = json.loads(done.stdout)
    told = shared.bundle.read()
    assert (document["verdict"], document["differences"]) == ("exact", [])
    assert document["found"] == told.metrics["val/domain/loss"]
    assert document["rows"]["values"] > 20
    again = json.loads((tmp_path / document["run"] / "result.json").read_text())
    assert again["fingerprints"] == told.fingerprints


def test_its_owner_need_not_say_where_the_files_are(shared: Shared) -> None:
    done = shared.harness("reproduce", "winner", "--check", "--json")
    assert (done.rc, json.loads(done.stdout)["differences"]) == (0, []), done


def test_files_that_lie_elsewhere_are_asked_for(shared: Shared, tmp_path: Path) -> None:
    shared.colleague(tmp_path)
    done = call_harness("reproduce", "conf/experiment/best/winner", cwd=tmp_path)
    assert done.rc == 2, done
    assert "data.sources.domain.path=…  (domain.jsonl)" in done.stderr
    assert "model.path=…  (base-30k)" in done.stderr


def test_other_data_is_found_out_before_anything_is_trained(shared: Shared, tmp_path: Path) -> None:
    given = shared.colleague(tmp_path)
    write_jsonl(tmp_path / "mine/code.jsonl", documents(["another", "text", "of", "its", "own"], 200, seed=3))
    done = call_harness("reproduce", "winner", *given, cwd=tmp_path)
    assert done.rc == 2, done
    assert "data.sources.domain.path=mine/code.jsonl: not the data.sources.domain that winner was trained with" in done.stderr
    assert "data.sources.general.path" not in done.stderr
    assert "data.sources.domain " in done.stdout
    assert not (tmp_path / "runs").exists()


def test_a_trial_is_run_again_and_another_recipe_is_said_to_be_one(shared: Shared) -> None:
    number = shared.bundle.read().trial
    done = shared.harness("reproduce", f"question/{number}", "optim.lr=1e-6", "--json")
    assert done.rc == 1, done
    document = json.loads(done.stdout)
    assert document["verdict"] == "differs"
    assert [(one["what"], one["matters"]) for one in document["differences"]] == [("optim.lr", "configuration")]
    assert "it was not confirmed" in document["why"]


def reproduced(place: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = run_harness("reproduce", "winner", *arguments, "--json", cwd=place, timeout_seconds=300)
    assert done.rc in (0, 1), done
    document: dict[str, Any] = json.loads(done.stdout)
    return done.rc, document


def test_of_another_seed_nothing_is_known_until_the_noise_of_seeds_is_measured(shared: Shared, tmp_path: Path) -> None:
    given = [*shared.colleague(tmp_path), "seed=1"]
    rc, document = reproduced(tmp_path, *given)
    assert (rc, document["verdict"], document["reach"]) == (1, "unknown", None)
    assert "--seeds N" in document["why"]

    rc, document = reproduced(tmp_path, *given, "--seeds", "2")
    further = sorted((tmp_path / "runs").glob("*/result.json"), key=lambda path: path.stat().st_mtime)[-3:]
    seeds = [read_yaml(path.parent / "config.yaml")["seed"] for path in further]
    assert seeds == [2, 3, 1], "the one that is judged is none of those that it is judged by"
    values = [json.loads(path.read_text())["metrics"]["val/domain/loss"] for path in further[:2]]
    # One degree of freedom: t is 12.706, for the difference of two runs.
    assert document["reach"] == pytest.approx(12.7062 * math.sqrt(2) * statistics.stdev(values), rel=1e-4)
    assert document["expected"] == shared.bundle.read().metrics["val/domain/loss"]
    assert (rc, document["verdict"]) == (0, "within_noise")


def test_what_lies_beyond_the_noise_of_seeds_differs_from_the_recipe(shared: Shared, tmp_path: Path) -> None:
    given = shared.colleague(tmp_path)
    bundle = tmp_path / "conf/experiment/best/winner/bundle.json"
    told = json.loads(bundle.read_text())
    told["metrics"]["val/domain/loss"] += 50
    bundle.write_text(json.dumps(told))
    rc, document = reproduced(tmp_path, *given, "seed=1", "--seeds", "2")
    assert (rc, document["verdict"]) == (1, "differs"), "it is held against the recipe, not against the runs that measure the noise"
    assert document["difference"] < -40


def test_a_damaged_bundle_and_an_unknown_one_are_bad_input(shared: Shared, tmp_path: Path) -> None:
    shared.colleague(tmp_path)
    bundle = tmp_path / "conf/experiment/best/winner/bundle.json"
    done = call_harness("reproduce", "winer", cwd=tmp_path)
    assert (done.rc, "Did you mean 'winner'" in done.stderr) == (2, True), done
    bundle.write_text(json.dumps({**json.loads(bundle.read_text()), "seed": "x"}))
    done = call_harness("reproduce", "winner", cwd=tmp_path)
    assert (done.rc, "seed" in done.stderr) == (2, True), done
    listed = call_harness("recipes", "--json", cwd=tmp_path)
    assert (listed.rc, json.loads(listed.stdout)) == (0, {"recipes": []})
    assert "winner: left out" in listed.stderr
    shutil.rmtree(bundle.parent)
