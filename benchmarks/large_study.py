"""Seconds that a study of many trials costs its workers and its watchers: claim, settle, `harness status`.

    python -m benchmarks.large_study [--trials 1000] [--claims 20]

The trials cost nothing: what is timed is the study's own work. They are proposed at random; then a worker goes on with TPE, whose claims,
which grow with the number of trials, stand apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.workload import SPACE, harness, timed, unread_text
from harness.runs.result import read_result, write_result
from harness.search.load_sweep import load_sweep
from harness.search.open_study import open_study
from harness.search.storage.build import open_storage
from harness.search.study import Claim, Study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--claims", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HARNESS_RUNS"] = f"{folder}/runs"
        path = write_sweep(Path(folder), budget={"trials": 10**6})
        sweep = load_sweep(str(path), [])
        directory = open_study(sweep)
        storage = open_storage(directory, "benchmark")
        storage.announce("benchmark")
        study = Study(directory, sweep, "benchmark", storage)
        for _ in range(arguments.trials):
            _trial(study)
        began = time.perf_counter()
        study = Study(directory, sweep, "benchmark", storage)
        print(f"{arguments.trials} trials; a worker opens the study in {time.perf_counter() - began:.3f} s")
        times: dict[str, list[float]] = {}
        for _ in range(arguments.claims):
            _trial(study, lambda name, seconds: times.setdefault(name, []).append(seconds))
        tpe = Study(directory, load_sweep(str(path), ["search=tpe"]), "benchmark", storage)
        for _ in range(arguments.claims):
            _trial(tpe, lambda name, seconds: times.setdefault(f"{name}, TPE", []).append(seconds))
        for options in ([], ["--json"]):
            times[" ".join(["harness status", *options])] = [timed(harness("status", sweep.name, *options))[0] for _ in range(5)]
        for name, seconds in times.items():
            print(f"{name:30} median {statistics.median(seconds):.3f} s   worst {max(seconds):.3f} s")


def write_sweep(folder: Path, **document: object) -> Path:
    """A random search under one constraint, over text that nobody reads."""
    path = folder / "study.yaml"
    plain = {
        "base": [*unread_text(folder), "trainer.max_steps=100"],
        "objective": {"metric": "val/target/loss"},
        "constraints": {"val/general/forgetting": {"max": 0.3}},
        "space": SPACE,
        "search": "random",
    }
    path.write_text(json.dumps({**plain, **document}))
    return path


def end_trial(claim: Claim) -> None:
    """Leave what training would."""
    result = read_result(claim.run)
    result.state, result.attempts = "complete", result.attempts + 1
    result.metrics = {"val/target/loss": 2.0 + claim.number % 97 / 97, "val/general/forgetting": 0.1}
    write_result(claim.run, result)


def _trial(study: Study, timed: Callable[[str, float], object] = lambda name, seconds: None) -> None:
    """A trial that does nothing but end."""
    began = time.perf_counter()
    claim = study.claim()
    timed("claim", time.perf_counter() - began)
    assert isinstance(claim, Claim)
    began = time.perf_counter()
    study.prepare(claim)
    timed("prepare", time.perf_counter() - began)
    end_trial(claim)
    began = time.perf_counter()
    study.settle(claim, 0)
    timed("settle", time.perf_counter() - began)


if __name__ == "__main__":
    main()
