"""What tests see of the configuration does not depend on which commands were run in the checkout before."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.checkout import ROOT

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
    for folder in ("harness", "sweeps", "slurm"):
        (used / folder).symlink_to(ROOT / folder)
    for left in ("conf/experiment/best/quickstart.yaml", "conf/local/experiment/mine.yaml", "conf/local/launcher/slurm.yaml"):
        (used / left).parent.mkdir(parents=True, exist_ok=True)
        (used / left).write_text("# @package _global_\noptim: {lr: 0.1}\n")
    done = subprocess.run([sys.executable, "-c", PROGRAM, used], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == sorted(path.stem for path in (ROOT / "conf/experiment").glob("*.yaml"))
