"""Seconds that a study of many trials costs its workers and its watchers: claim, settle, `harness status`.

    python benchmarks/large_study.py [--trials 1000] [--claims 20]

The trials cost nothing: what is timed is the study's own work. TPE's own proposals, which grow with the number of trials, stand apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.runs.result import read_result, write_result
from harness.search.loading import load_sweep
from harness.search.opening import open_study
from harness.search.samplers import build_sampler
from harness.search.storage.build import open_storage
from harness.search.study import Claim, Study
from harness.search.sweep import Sweep

SWEEP: dict[str, Any] = {
    "objective": {"metric": "val/python/loss"},
    "constraints": {"val/english/forgetting": {"max": 0.3}},
    "space": {
        "optim.lr": {"low": 1e-4, "high": 3e-2, "log": True},
        "schedule": {"choices": ["cosine", "linear", "wsd"]},
        "schedule.decay_fraction": {"low": 0.1, "high": 0.5, "when": {"schedule": "wsd"}},
        "data.packing": {"choices": ["best_fit", "concat", "padded"]},
        "data.replay_share": {"low": 0.0, "high": 0.5, "step": 0.05},
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--claims", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HARNESS_RUNS"] = f"{folder}/runs"
        sweep = _sweep(Path(folder))
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
        study._optuna.sampler = build_sampler(replace(sweep.config.search, name="tpe"), sweep.space, 0, {})
        for _ in range(arguments.claims):
            began = time.perf_counter()
            sweep.space.suggest(study._optuna.ask())
            times.setdefault("TPE's ask and suggest", []).append(time.perf_counter() - began)
        for json_or_not in ([], ["--json"]):
            for _ in range(5):
                began = time.perf_counter()
                subprocess.run([sys.executable, "-m", "harness", "status", sweep.name, *json_or_not], stdout=subprocess.DEVNULL, check=True)
                times.setdefault(" ".join(["harness status", *json_or_not]), []).append(time.perf_counter() - began)
        for name, seconds in times.items():
            print(f"{name:30} median {statistics.median(seconds):.3f} s   worst {max(seconds):.3f} s")


def base(folder: Path) -> list[str]:
    """Overrides that make a complete configuration, over files that exist and nobody reads."""
    text = folder / "text.jsonl"
    text.write_text('{"text": "some text"}\n')
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    overrides = ["trainer.max_steps=100", "tracking=none", f"tokenizer.path={folder}/tokenizer", "data.sources.english.replay=true"]
    for name in ("english", "python"):
        overrides += [f"data.sources.{name}.path={text}", f"data.validation.{name}.source={name}", f"data.validation.{name}.share=0.1"]
    return overrides


def _sweep(folder: Path) -> Sweep:
    path = folder / "study.yaml"
    path.write_text(json.dumps({**SWEEP, "base": base(folder), "search": "random", "budget": {"trials": 10**6}}))
    return load_sweep(str(path), [])


def _trial(study: Study, timed: Callable[[str, float], object] = lambda name, seconds: None) -> None:
    """A trial that does nothing but end."""
    began = time.perf_counter()
    claim = study.claim()
    timed("claim", time.perf_counter() - began)
    assert isinstance(claim, Claim)
    began = time.perf_counter()
    study.prepare(claim)
    timed("prepare", time.perf_counter() - began)
    result = read_result(claim.run)
    loss = 2.0 + claim.number % 97 / 97
    result.state, result.attempts, result.metrics = "complete", 1, {"val/python/loss": loss, "val/english/forgetting": 0.1}
    write_result(claim.run, result)
    began = time.perf_counter()
    study.settle(claim, 0)
    timed("settle", time.perf_counter() - began)


if __name__ == "__main__":
    main()
