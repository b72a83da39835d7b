"""Seconds from asking for a trial to the beginning of its first training step on a warm worker, by stage.

    python -m benchmarks.trial_overhead [--trials 20] [--tracking none wandb]

Real training of a model of 1 M parameters (model=llama_1m) on Python source, as the quickstart does it; everything that a trial needs but
does not share is in the figure. The evaluation at step 0 and the first step itself belong to the run, not to the harness: they stand
apart. The clock is the system's monotonic one, the same in every process. The processor time of the attempt's own process says most on a
machine that others use, too.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.workload import SPACE, python_text, quantile

KEYS = ("optim.lr", "schedule", "schedule.decay_fraction", "data.packing")
STAGES = ["claim", "prepare", "fork", "configuration", "provenance", "tokenizer", "data", "model", "trainer", "rest of the attempt"]
EVALUATION, FIRST_STEP = "evaluation at step 0", "first step"
PROCESSOR = "processor time of the attempt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--tracking", nargs="+", default=["none", "wandb"], choices=["none", "wandb"])
    arguments = parser.parse_args()
    # The functions of this file that run in children are found by this name.
    from benchmarks.trial_overhead import measure

    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(HARNESS_RUNS=f"{folder}/runs", HARNESS_CACHE=f"{folder}/cache", WANDB_MODE="offline")
        base = [
            *python_text(Path(folder), documents=60),
            "model=llama_1m",
            "data.validation.python.source=python",
            "data.validation.python.share=0.05",
            "trainer.max_steps=3",
            "trainer.batch_tokens=2048",
            "trainer.final_checkpoint=none",
        ]
        for tracking in arguments.tracking:
            _print(tracking, measure(Path(folder), [*base, f"tracking={tracking}"], tracking, arguments.trials))


def measure(folder: Path, base: list[str], name: str, trials: int) -> list[dict[str, float]]:
    """Run a study in this process as a worker does; the seconds of each trial by stage."""
    from harness.cli.worker import preload
    from harness.runs.locks import hold
    from harness.search.attempts import AttemptServer
    from harness.search.load_sweep import load_sweep
    from harness.search.open_study import open_study
    from harness.search.study import Claim, Study

    path = folder / f"{name}.yaml"
    document = {
        "base": base,
        "objective": {"metric": "val/python/loss"},
        "space": {key: SPACE[key] for key in KEYS},
        "search": {"name": "tpe", "startup_trials": 5},
        "budget": {"trials": trials + 2},
        "launcher": {"workers": 1},
    }
    path.write_text(json.dumps(document))
    sweep = load_sweep(str(path), [])
    directory = open_study(sweep)
    lock = hold(directory.worker_lock("benchmark"))
    assert lock is not None
    study = Study(directory, sweep, "benchmark")
    server = AttemptServer(timed_attempt, ["benchmarks.workload", "statistics", *preload(directory)])
    measured = []
    while True:
        began = time.perf_counter()
        claim = study.claim()
        if not isinstance(claim, Claim):
            break
        claimed = time.perf_counter()
        study.prepare(claim)
        prepared = time.perf_counter()
        process = server.start(claim.run.path)
        process.join()
        result = study.settle(claim, process.exitcode or 0)
        assert result.state == "complete", (result.reason, claim.run.path)
        marks = json.loads((claim.run.path / "marks.json").read_text())
        spent: dict[str, float] = marks["spent"]
        seconds = {"claim": claimed - began, "prepare": prepared - claimed, "fork": marks["entered"] - prepared, **spent}
        seconds[EVALUATION] = claim.run.metrics.rows()[0]["evaluation_seconds"]
        seconds["rest of the attempt"] = marks["step_begins"] - marks["entered"] - sum(spent.values()) - seconds[EVALUATION]
        seconds["together"] = marks["step_begins"] - began - seconds[EVALUATION]
        seconds[FIRST_STEP] = marks["step_ends"] - marks["step_begins"]
        seconds[PROCESSOR] = marks["processor"]
        measured.append(seconds)
    # The first trials tokenize, and find cold files: a worker is warm after them.
    return measured[2:]


def timed_attempt(directory: str) -> int:
    """An attempt as in any study, with a clock around its parts."""
    entered, processor = time.perf_counter(), time.process_time()
    from harness.data.mixture import build_training_data
    from harness.evaluation.build import build_evaluation_sets
    from harness.models.adapters.build import build_adapted_model
    from harness.models.isolation import isolate_documents
    from harness.models.language_model import model_fingerprint
    from harness.models.tokenizer import load_tokenizer, tokenizer_fingerprint
    from harness.runs.run_config import load_run_config
    from harness.training.evaluator import Evaluator
    from harness.training.plan import build_plan
    from harness.training.provenance import git_commit, hardware, versions
    from harness.training.step_end import StepEnd
    from harness.training.trainer import build_trainer
    from harness.work.attempt import attempt_trial

    parts: dict[str, list[Callable[..., Any]]] = {
        "configuration": [load_run_config],
        "provenance": [versions, git_commit, hardware],
        "tokenizer": [load_tokenizer, tokenizer_fingerprint],
        "data": [build_training_data, build_evaluation_sets, build_plan],
        "model": [build_adapted_model, isolate_documents, model_fingerprint],
        "trainer": [build_trainer],
    }
    spent: dict[str, float] = {}
    for stage, functions in parts.items():
        for function in functions:
            _clock(function, stage, spent)
    marks: dict[str, Any] = {"entered": entered}
    original, evaluate = StepEnd.on_train_batch_end, Evaluator.evaluate

    def without_evaluation(*arguments: Any, **keywords: Any) -> Any:
        nonlocal processor
        began = time.process_time()
        try:
            return evaluate(*arguments, **keywords)
        finally:
            processor += time.process_time() - began

    def on_train_batch_start(self: Any, *arguments: Any, **keywords: Any) -> None:
        if "step_begins" not in marks:
            marks.update(step_begins=time.perf_counter(), spent=dict(spent), processor=time.process_time() - processor)

    def on_train_batch_end(self: Any, *arguments: Any, **keywords: Any) -> None:
        if "step_ends" not in marks:
            marks["step_ends"] = time.perf_counter()
            (Path(directory) / "marks.json").write_text(json.dumps(marks))
        original(self, *arguments, **keywords)

    Evaluator.evaluate = without_evaluation  # type: ignore[method-assign]
    StepEnd.on_train_batch_start = on_train_batch_start  # type: ignore[method-assign]
    StepEnd.on_train_batch_end = on_train_batch_end  # type: ignore[method-assign]
    return attempt_trial(directory)


def _clock(function: Callable[..., Any], stage: str, spent: dict[str, float]) -> None:
    """Count the seconds of a function, wherever it was imported to."""

    @functools.wraps(function)
    def clocked(*arguments: Any, **keywords: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*arguments, **keywords)
        finally:
            spent[stage] = spent.get(stage, 0.0) + time.perf_counter() - began

    for module in [module for name, module in sys.modules.items() if name.startswith("harness.")]:
        if vars(module).get(function.__name__) is function:
            setattr(module, function.__name__, clocked)


def _print(tracking: str, measured: list[dict[str, float]]) -> None:
    print(f"\ntracking={tracking}, {len(measured)} trials: seconds        p50     p95")
    for stage in [*STAGES, "together", PROCESSOR, EVALUATION, FIRST_STEP]:
        values = [seconds[stage] for seconds in measured]
        print(f"  {stage:40} {statistics.median(values):7.3f} {quantile(values, 0.95):7.3f}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
