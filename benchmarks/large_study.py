"""Seconds that a study of many trials costs its workers and its watchers: claim, settle, `harness status`.

    python -m benchmarks.large_study [--trials 1000] [--claims 20] [--searches tpe gp trunk]

The trials cost nothing: what is timed is the study's own work. Those that are there already are drawn at random, a third of them for each
rung of a trunk search, and written as workers would have left them; then a worker goes on, by random search and by searches that learn. CPU
seconds stand beside those of the wall, since machines are shared.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.workload import SPACE, harness, timed, unread_text
from harness.runs.result import read_result, write_result
from harness.runs.trial import claimed_trial, write_trial
from harness.search.load_sweep import load_sweep
from harness.search.open_study import open_study
from harness.search.storage.build import open_storage
from harness.search.study import Claim, Study

RUNGS = 3
Seconds = tuple[float, float]
"""Of the wall, and of the processor."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--claims", type=int, default=20)
    parser.add_argument("--searches", nargs="*", default=["tpe", "trunk"], choices=["tpe", "gp", "trunk"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HARNESS_RUNS"] = f"{folder}/runs"
        path = write_sweep(Path(folder), budget={"trials": 10**6})
        sweep = load_sweep(str(path), [])
        directory = open_study(sweep)
        storage = open_storage(directory, "benchmark")
        storage.announce("benchmark")
        study = Study(directory, sweep, "benchmark", storage)
        _trial(study)
        _fill(study, arguments.trials)
        began = time.perf_counter()
        study = Study(directory, sweep, "benchmark", storage)
        print(f"{arguments.trials} trials; a worker opens the study in {time.perf_counter() - began:.3f} s")
        times: dict[str, list[Seconds]] = {}
        for search in ("random", *arguments.searches):
            # Trunk search is timed without its confirmation, which is a study of its own.
            going_on = load_sweep(str(path), [f"search={search}", "search.confirm=false"])
            study = Study(directory, going_on, "benchmark", storage)

            def keep(name: str, seconds: Seconds, search: str = search) -> None:
                times.setdefault(f"{name}, {search}", []).append(seconds)

            for _ in range(arguments.claims):
                _trial(study, keep)
        for options in ([], ["--json"]):
            times[" ".join(["harness status", *options])] = [timed(harness("status", sweep.name, *options)) for _ in range(5)]
        for name, measured in times.items():
            wall, cpu = zip(*measured, strict=True)
            print(f"{name:24} median {statistics.median(wall):.4f} s, CPU {statistics.median(cpu):.4f} s   worst CPU {max(cpu):.4f} s")


def write_sweep(folder: Path, **document: object) -> Path:
    """A random search under one constraint, over text that nobody reads."""
    path = folder / "study.yaml"
    plain = {
        "base": [*unread_text(folder), "trainer.max_steps=100", "schedule.warmup=5"],
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
    result.metrics = _metrics(claim.number)
    write_result(claim.run, result)


def _metrics(number: int) -> dict[str, float]:
    return {"val/target/loss": 2.0 + number % 97 / 97, "val/general/forgetting": 0.1}


def _fill(study: Study, trials: int) -> None:
    """Complete trials like the first one, up to so many, at points drawn at random."""
    import optuna

    first = study.directory.trial(0)
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    with study.storage.locked():
        record = optuna.load_study(study_name=study.directory.name, storage=study.storage.optuna)
        for number in range(1, trials):
            asked = drawn.ask()
            params = study.sweep.space.suggest(asked)
            run, metrics = study.directory.trial(number), _metrics(number)
            shutil.copytree(first.path, run.path)
            write_trial(run, replace(claimed_trial(first), number=number, params=params, rung=number % RUNGS))
            write_result(run, replace(read_result(first), metrics=metrics, objective=metrics["val/target/loss"]))
            record.add_trial(optuna.create_trial(params=asked.params, distributions=asked.distributions, value=metrics["val/target/loss"]))


def _trial(study: Study, timed: Callable[[str, Seconds], object] = lambda name, seconds: None) -> None:
    """A trial that does nothing but end."""
    with _measured("claim", timed):
        claim = study.claim()
    assert isinstance(claim, Claim)
    with _measured("prepare", timed):
        study.prepare(claim)
    end_trial(claim)
    with _measured("settle", timed):
        study.settle(claim, 0)


@contextmanager
def _measured(name: str, timed: Callable[[str, Seconds], object]) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    timed(name, (time.perf_counter() - wall, time.process_time() - cpu))


if __name__ == "__main__":
    main()
