"""The wheel carries its configuration, and works away from the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHIPPED = ("harness", "conf", "sweeps", "synth", "slurm")
PRIVATE = ("conf/local/launcher/slurm.yaml", "conf/experiment/best/quickstart.yaml", "conf/experiment/best/quickstart/config.yaml")


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, unpacked where a package would be installed; whoever built it has accounts and winners of their own."""
    place = tmp_path_factory.mktemp("wheel")
    tree = place / "tree"
    for name in SHIPPED:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "local"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree / name)
    for private in PRIVATE:
        (tree / private).parent.mkdir(parents=True, exist_ok=True)
        (tree / private).write_text("account: mine\n")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", place, tree], check=True)
    (wheel,) = place.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(place / "installed")
    return place / "installed"


def harness(installed: Path, *arguments: str | Path, home: Path) -> str:
    """What the command prints that runs in the directory `home`, of somebody who has nothing but the wheel."""
    done = subprocess.run(
        [sys.executable, "-m", "harness", *map(str, arguments)],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(installed), "HOME": str(home), "HARNESS_RUNS": str(home / "runs"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_harness_from_the_wheel_composes_its_own_configuration_elsewhere(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "docs.jsonl").write_text('{"text": "some text"}\n')
    given = ["data.sources.docs.path=docs.jsonl", "model.path=org/model"]
    shown = json.loads(harness(installed, "show", "--json", "schedule=wsd", "trainer.max_steps=100", *given, home=tmp_path))
    assert shown["config"]["schedule"]["name"] == "wsd"
    assert shown["origins"]["schedule.name"] == str(installed / "harness" / "conf" / "schedule" / "wsd.yaml")
    assert (installed / "harness" / "sweeps" / "quickstart.yaml").exists()
    assert (installed / "harness" / "synth" / "answers.yaml").exists()
    assert (installed / "harness" / "slurm" / "job.sbatch").exists()


def test_nothing_of_whoever_built_the_wheel_is_in_it(installed: Path) -> None:
    assert not [private for private in PRIVATE if (installed / "harness" / private).exists()]
    assert not (installed / "harness/conf/local").exists()


@pytest.mark.long
def test_a_recipe_is_reproduced_to_the_last_bit_where_there_is_only_the_wheel(installed: Path, tmp_path: Path, tiny: list[str]) -> None:
    """Without the repository, the runs, or the configuration of who made it."""
    owner, colleague = tmp_path / "owner", tmp_path / "colleague"
    owner.mkdir()
    (colleague / "theirs/experiment/best").mkdir(parents=True)
    run = harness(installed, "train", *tiny, home=owner).strip()
    harness(installed, "best", run, "--export", "winner", home=owner)
    shutil.move(owner / "conf/experiment/best/winner", colleague / "theirs/experiment/best/winner")
    shutil.rmtree(owner)
    given = [text for text in tiny if text.startswith(("data.sources.domain.path=", "data.sources.general.path=", "tokenizer.path="))]
    document = json.loads(harness(installed, "--config-dir", "theirs", "reproduce", "winner", *given, "--json", home=colleague))
    assert (document["verdict"], document["differences"], document["rows"]["first_difference"]) == ("exact", [], None)
    assert document["found"] == document["expected"]
    listed = json.loads(harness(installed, "--config-dir", "theirs", "recipes", "--json", home=colleague))
    assert [recipe["name"] for recipe in listed["recipes"]] == ["winner"]
