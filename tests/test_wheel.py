"""The wheel carries its configuration, and works away from the repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_a_harness_from_the_wheel_composes_its_own_configuration_elsewhere(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    (tmp_path / "docs.jsonl").write_text('{"text": "some text"}\n')
    command = [sys.executable, "-m", "harness", "show", "--json", "schedule=wsd", "trainer.max_steps=100"]
    command += ["data.sources.docs.path=docs.jsonl", "model.path=org/model"]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    shown = json.loads(done.stdout)
    assert shown["config"]["schedule"]["name"] == "wsd"
    assert shown["origins"]["schedule.name"] == str(installed / "harness" / "conf" / "schedule" / "wsd.yaml")
    assert (installed / "harness" / "sweeps" / "quickstart.yaml").exists()
