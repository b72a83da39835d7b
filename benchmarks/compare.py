"""Seconds that comparing many trials costs: the table, JSON, CSV, the page, and the page in a browser until it can be used.

    python -m benchmarks.compare [--trials 1000] [--rounds 5]

From the repository's root: the study is the synthetic one of the tests, with 61 rows of metrics a trial. CPU seconds stand beside those
of the wall, since machines are shared. The page says itself when it is ready: `table`, when sorting and filtering answer; `pictures`,
when those that the reader sees first are drawn, after which everything answers while the others are drawn.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

from benchmarks.workload import harness, timed
from harness.runs.result import State
from tests.report.synthetic_study import write_study

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["HARNESS_RUNS"] = str(root / "runs")
        states: dict[int, State] = dict.fromkeys(range(3, arguments.trials, 7), "pruned")
        write_study(root / "runs", name="large", trials=arguments.trials, states=states)
        page = root / "page.html"
        print(f"{arguments.trials} trials; load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
        for name, options in (
            ("table", []),
            ("--json", ["--json"]),
            ("--csv", ["--csv", str(root / "runs.csv")]),
            ("--html", ["--html", str(page)]),
        ):
            _report(name, [timed(harness("compare", "large", *options)) for _ in range(arguments.rounds)])
        print(f"the page has {page.stat().st_size / 1e6:.1f} MB")
        if shutil.which("chromium"):
            seen = [_ready(page, root / "profile") for _ in range(arguments.rounds)]
            for name in ("table", "pictures"):
                times = [ready[name] for ready in seen]
                middle = statistics.median(times)
                print(f"{name + ' in Chromium':24} median {middle:6.2f} s   fastest {min(times):6.2f} s   worst {max(times):6.2f} s")
        print(f"load {os.getloadavg()[0]:.1f}")


def _ready(page: Path, profile: Path) -> dict[str, float]:
    """Seconds from the navigation on, by the page's own clock."""
    command = ["chromium", *FLAGS, f"--user-data-dir={profile}", "--window-size=1320,900", "--dump-dom", f"file://{page}"]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "HOME": str(profile.parent)}).stdout
    marks = {name: re.search(rf'data-{attribute}-ms="(\d+)"', dom) for name, attribute in (("table", "table"), ("pictures", "ready"))}
    return {name: int(mark.group(1)) / 1000 for name, mark in marks.items() if mark}


def _report(name: str, times: list[tuple[float, float]]) -> None:
    wall, cpu = zip(*times, strict=True)
    print(f"{name:24} median {statistics.median(wall):6.2f} s   fastest {min(wall):6.2f} s   CPU {statistics.median(cpu):6.2f} s")


if __name__ == "__main__":
    main()
