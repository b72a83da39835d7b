"""`harness ls` lists what there is; `harness init` copies it to be changed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.config.errors import InputError
from harness.config.locations import shipped
from tests.support.command import Done, call_harness


@pytest.fixture
def here(tmp_path: Path) -> Path:
    run, study = tmp_path / "runs" / "single", tmp_path / "runs" / "question"
    trial = study / "trials" / "0000"
    for path in (run, trial, tmp_path / "runs" / "broken"):
        path.mkdir(parents=True)
    result = {
        "state": "complete",
        "metrics": {"val/x/loss": 2.5},
        "objective": 2.5,
        "tokens": {"trained": 512, "budgeted": 512},
        "seconds": 3.0,
    }
    for path in (run, trial):
        (path / "config.yaml").write_text("seed: 1\n")
        (path / "result.json").write_text(json.dumps(result))
    (trial / "trial.json").write_text(json.dumps({"number": 0, "params": {"optim.lr": 1e-3}, "tokens": 512}))
    (study / "sweep.yaml").write_text("objective: {metric: val/x/loss, direction: minimize}\nbudget: {trials: 1}\nspace: {}\n")
    (tmp_path / "runs" / "broken" / "sweep.yaml").write_text("{[")
    return tmp_path


def harness(here: Path, *arguments: str) -> Done:
    return call_harness(*arguments, cwd=here, env={"HARNESS_RUNS": str(here / "runs")})


def listed(here: Path, *arguments: str) -> dict[str, Any]:
    done = harness(here, "ls", *arguments, "--json")
    assert done.rc == 0, done
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_everything_is_listed(here: Path) -> None:
    found = listed(here)
    assert list(found) == ["studies", "runs", "experiments", "sweeps", "synth", "recipes", "choices"]
    studies = {study["name"]: study for study in found["studies"]}
    assert (studies["question"]["trials"], studies["question"]["best"], studies["question"]["objective"]) == ({"complete": 1}, 0, 2.5)
    assert "cannot be read" in studies["broken"]["problem"]
    assert [(run["name"], run["state"], run["metrics"]) for run in found["runs"]] == [("single", "complete", {"val/x/loss": 2.5})]
    assert {"cpt", "sft"} <= {entry["name"] for entry in found["experiments"]}
    assert all(entry["about"] and entry["shipped"] for entry in [*found["experiments"], *found["sweeps"], *found["synth"]])
    assert found["choices"]["schedule"] == sorted(path.stem for path in (shipped("conf") / "schedule").glob("*.yaml"))


@pytest.mark.parametrize("section", ["studies", "runs", "experiments", "sweeps", "synth", "recipes", "choices"])
def test_one_section_alone(here: Path, section: str) -> None:
    assert list(listed(here, section)) == [section]
    assert harness(here, "ls", section).stdout.startswith(f"{section}\n")


def test_status_without_a_study_lists_them(here: Path) -> None:
    assert harness(here, "status").stdout == harness(here, "ls", "studies").stdout
    assert json.loads(harness(here, "status", "--json").stdout) == listed(here, "studies")


def test_what_cannot_be_listed(here: Path) -> None:
    done = harness(here, "ls", "study")
    assert done.rc == 2
    assert "Did you mean 'studies'?" in done.stderr


def test_a_place_without_anything_says_how_to_begin(tmp_path: Path) -> None:
    assert "none; harness sweep NAME begins one" in harness(tmp_path, "ls").stdout


@pytest.mark.parametrize(
    ("kind", "name", "source", "target"),
    [
        ("sweep", "cpt", "sweeps/cpt.yaml", "sweeps/cpt.yaml"),
        ("experiment", "sft", "conf/experiment/sft.yaml", "conf/experiment/sft.yaml"),
        ("launcher", "slurm_8gpu", "conf/launcher/slurm_8gpu.yaml", "conf/launcher/slurm_8gpu.yaml"),
        ("synth", "pairs", "synth/pairs.yaml", "synth/pairs.yaml"),
    ],
)
def test_a_copy_has_every_line_and_a_schema(here: Path, kind: str, name: str, source: str, target: str) -> None:
    done = harness(here, "init", kind, name)
    assert (done.rc, done.stdout) == (0, f"{target}\n"), done
    folder, _, file = source.partition("/")
    original = (shipped(folder) / file).read_text()
    copy = (here / target).read_text()
    assert set(original.splitlines()) <= set(copy.splitlines())
    assert yaml.safe_load(copy) == yaml.safe_load(original)
    assert copy.splitlines()[0] == original.splitlines()[0] or copy.startswith("# yaml-language-server")
    schema = (here / target).parent / f".{kind}.schema.json"
    assert f"$schema=./{schema.name}" in copy
    assert json.loads(schema.read_text()) == json.loads(harness(here, "init", kind, "--schema").stdout)
    section = "synth" if kind == "synth" else f"{kind}s"
    assert kind == "launcher" or not next(entry for entry in listed(here)[section] if entry["name"] == name)["shipped"]
    again = harness(here, "init", kind, name)
    assert again.rc == 2
    assert "exists; give the copy another name" in again.stderr


def test_a_copy_under_another_name_is_read_as_the_original(here: Path) -> None:
    assert harness(here, "init", "experiment", "cpt", "mine").rc == 0
    inputs = ["data.sources.target.path=a", "data.sources.general.path=b", "model.path=c"]
    done = [harness(here, "show", f"experiment={name}", *inputs) for name in ("mine", "cpt")]
    assert [one.stderr for one in done] == [done[1].stderr] * 2


def test_the_templates_of_a_recipe_come_along_and_are_never_overwritten(here: Path) -> None:
    assert harness(here, "init", "synth", "pairs").rc == 0
    template = here / "synth" / "grade.jinja"
    assert template.read_text() == (shipped("synth") / "grade.jinja").read_text()
    template.write_text("Mine: {{ answer }}")
    done = harness(here, "init", "synth", "pairs", "mine")
    assert (done.rc, done.stdout) == (0, "synth/mine.yaml\n"), done
    assert "harness synth mine uses it" in done.stderr
    assert template.read_text() == "Mine: {{ answer }}"


def test_a_template_below_a_recipe_stays_where_the_copy_looks_for_it(here: Path) -> None:
    theirs = here / "more" / "synth"
    (theirs / "texts").mkdir(parents=True)
    (theirs / "below.yaml").write_text("steps: {text: {template: texts/write.jinja}}\n")
    (theirs / "texts" / "write.jinja").write_text("Write.")
    _init(here, theirs, "below")
    assert (here / "synth" / "texts" / "write.jinja").read_text() == "Write."


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("[a]", "steps"),
        ("{text: null}", "steps.text"),
        ("{text: {template: none.jinja}}", "steps.text.template=none.jinja: cannot be read"),
        ("{text: {template: ../x.jinja}}", "a template lies beside its recipe, or below"),
    ],
)
def test_a_recipe_that_is_none_leaves_nothing(here: Path, steps: str, message: str) -> None:
    (here / "x.jinja").touch()
    (here / "theirs").mkdir()
    (here / "theirs" / "bad.yaml").write_text(f"steps: {steps}\n")
    with pytest.raises(InputError, match=rf"bad\.yaml: .*{re.escape(message)}"):
        _init(here, here / "theirs", "bad")
    assert not (here / "synth").exists()


def _init(here: Path, source: Path, name: str) -> None:
    from harness.work import init

    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(here)
        patched.setattr(init, "synth_names", lambda: [name])
        patched.setattr(init, "synth_dirs", lambda: [source])
        init.init("synth", name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("synth", "pair"), "unknown recipe 'pair'. Did you mean 'pairs'?"),
        (("sweep", "cptt"), "unknown sweep 'cptt'. Did you mean 'cpt'?"),
        (("experiment",), "NAME: required, the experiment to copy. Valid: cpt, distill,"),
        (("launcher", "slurm", "../x"), "NEW_NAME=../x: expected a plain name"),
    ],
)
def test_what_cannot_be_copied(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = harness(tmp_path, "init", *arguments)
    assert done.rc == 2
    assert message in done.stderr
    assert not list(tmp_path.iterdir())
