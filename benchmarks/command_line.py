"""Seconds that the commands take which people wait for: help, completion, a small configuration.

python benchmarks/command_line.py [--repeats 10]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass (the interpreter alone)": [sys.executable, "-c", "pass"],
    "harness --help": [sys.executable, "-m", "harness", "--help"],
    "harness sweep --help": [sys.executable, "-m", "harness", "sweep", "--help"],
    "completion of `harness train optim.`": [sys.executable, "-m", "harness"],
}
COMPLETION = {"_HARNESS_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "harness train optim."}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    repeats = parser.parse_args().repeats
    for name, command in COMMANDS.items():
        environment = {**os.environ, **(COMPLETION if "completion" in name else {})}
        seconds = []
        for _ in range(repeats):
            began = time.perf_counter()
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            seconds.append(time.perf_counter() - began)
        print(f"{name:45} median {statistics.median(seconds):.3f} s   worst {max(seconds):.3f} s")


if __name__ == "__main__":
    main()
