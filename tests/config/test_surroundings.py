"""What tests see of the configuration does not depend on which commands were run in the checkout before."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.config.errors import InputError
from harness.config.load import load
from tests.support.checkout import ROOT
from tests.support.command import run_harness

PROGRAM = """
import sys
from pathlib import Path
from tests.support import checkout

checkout.ROOT = Path(sys.argv[1])
checkout.leave_out_what_commands_left()
from harness.config.locations import choices
print(*choices("experiment"))
"""


def test_winners_and_overlays_in_the_checkout_are_not_seen(tmp_path: Path) -> None:
    used = tmp_path / "checkout"
    shutil.copytree(ROOT / "conf", used / "conf", ignore=shutil.ignore_patterns("local", "best"))
    for folder in ("harness", "sweeps", "synth", "slurm"):
        (used / folder).symlink_to(ROOT / folder)
    for left in ("conf/experiment/best/quickstart.yaml", "conf/local/experiment/mine.yaml", "conf/local/launcher/slurm.yaml"):
        (used / left).parent.mkdir(parents=True, exist_ok=True)
        (used / left).write_text("# @package _global_\noptim: {lr: 0.1}\n")
    done = subprocess.run([sys.executable, "-c", PROGRAM, used], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == sorted(path.stem for path in (ROOT / "conf/experiment").glob("*.yaml"))


@pytest.mark.parametrize("encoding", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii"}])
def test_files_are_utf_8_whatever_the_locale_and_a_terminal_shows_what_it_can(tmp_path: Path, encoding: dict[str, str]) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "größe.yaml").write_text("# Größer, ★, 数据.\nobjective: {metric: val/x/loss}\n", "utf-8")
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "gross.yaml").write_text("# @package _global_\n# Größer ★\nseed: 7\n", "utf-8")
    listed = run_harness("ls", cwd=tmp_path, env=encoding)
    assert (listed.rc, listed.stderr) == (0, ""), listed
    shown = run_harness("show", "experiment=gross", "optim.lr=null", cwd=tmp_path, env=encoding)
    assert (shown.rc, "Traceback" in shown.stderr) == (2, False), shown
    assert "optim.lr=null" in shown.stderr


@pytest.mark.parametrize("content", ["", "defaults:\n  - db: mysql\n  - _self_\nseed: 7\n", "seed: 7\n"])
def test_a_primary_file_of_another_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text(content)
    with pytest.raises(InputError, match=r"conf/config\.yaml: takes the place of the harness's own config\.yaml.*without it"):
        load(["seed=1"])


def test_a_primary_file_of_one_s_own_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text((ROOT / "conf" / "config.yaml").read_text() + "seed: 41\n")
    assert load([], checked_by=lambda config: None).config.seed == 41
