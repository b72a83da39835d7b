"""What commands leave in the checkout is not seen by tests: exported winners, a user's overlay of the configuration, runs."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEFT_BEHIND = ("local", "best", "__pycache__")
"""Below conf/: what `harness best --export` and users write; nothing of these folders ships."""


def leave_out_what_commands_left() -> None:
    """This process, and those that it starts, import `harness` from beside a copy of conf/ that holds only what ships.

    Called before anything imports `harness`. The package itself is a link, so that tracebacks and debuggers show the checkout's files.
    """
    assert "harness" not in sys.modules
    tree, owner = Path(tempfile.mkdtemp(prefix="harness-tests-")), os.getpid()

    @atexit.register
    def remove() -> None:
        if os.getpid() == owner:  # not at the end of a process that was forked
            shutil.rmtree(tree)

    for linked in ("harness", "sweeps", "synth", "slurm"):
        (tree / linked).symlink_to(ROOT / linked)
    shutil.copytree(ROOT / "conf", tree / "conf", ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    sys.path.insert(0, str(tree))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(tree), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
