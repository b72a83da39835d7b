"""Seconds that the commands take which people wait for: help, completion, a small configuration.

python -m benchmarks.command_line [--repeats 10]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from benchmarks.workload import harness, timed

COMPLETION = {"_HARNESS_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "harness train optim."}
COMMANDS: dict[str, tuple[list[str], dict[str, str]]] = {
    "python -c pass (the interpreter alone)": ([sys.executable, "-c", "pass"], {}),
    "harness --help": (harness("--help"), {}),
    "harness sweep --help": (harness("sweep", "--help"), {}),
    # Shells ask the installed command: what completes depends on its name.
    "completion of `harness train optim.`": ([str(Path(sys.executable).with_name("harness"))], COMPLETION),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    repeats = parser.parse_args().repeats
    for name, (command, environment) in COMMANDS.items():
        seconds = [timed(command, environment)[0] for _ in range(repeats)]
        print(f"{name:45} median {statistics.median(seconds):.3f} s   worst {max(seconds):.3f} s")


if __name__ == "__main__":
    main()
