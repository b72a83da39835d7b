"""Seconds from asking for a trial to the beginning of its first training step on a warm worker, by stage.

    python benchmarks/trial_overhead.py [--trials 20] [--tracking none wandb]

Real training of a model of 1 M parameters (model=llama_1m) on Python source, as the quickstart does it; everything that a trial needs but
does not share is in the figure. The evaluation at step 0 and the first step itself belong to the run, not to the harness: they stand
apart. The clock is the system's monotonic one, the same in every process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SWEEP: dict[str, Any] = {
    "objective": {"metric": "val/python/loss"},
    "space": {
        "optim.lr": {"low": 1e-4, "high": 3e-2, "log": True},
        "schedule": {"choices": ["cosine", "linear", "wsd"]},
        "schedule.decay_fraction": {"low": 0.1, "high": 0.5, "when": {"schedule": "wsd"}},
        "data.packing": {"choices": ["best_fit", "concat"]},
    },
    "search": {"name": "tpe", "startup_trials": 5},
}
STAGES = ["claim", "prepare", "fork", "configuration", "provenance", "tokenizer", "data", "model", "trainer", "rest of the attempt"]
EVALUATION, FIRST_STEP = "evaluation at step 0", "first step"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--tracking", nargs="+", default=["none", "wandb"], choices=["none", "wandb"])
    arguments = parser.parse_args()
    # The functions of this file that run in children are found by this name.
    from trial_overhead import measure

    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(HARNESS_RUNS=f"{folder}/runs", HARNESS_CACHE=f"{folder}/cache", WANDB_MODE="offline")
        base = _base(Path(folder))
        for tracking in arguments.tracking:
            _print(tracking, measure(Path(folder), [*base, f"tracking={tracking}"], tracking, arguments.trials))


def _base(folder: Path) -> list[str]:
    """Text, a tokenizer and the overrides of a run of three steps."""
    from harness.data.byte_bpe import train_byte_bpe
    from harness.data.sources import read_documents
    from harness.data.stdlib_corpus import write_corpus

    write_corpus(folder / "text")
    source = folder / "text" / "some_python.jsonl"
    source.write_text("".join((folder / "text" / "python.jsonl").read_text().splitlines(keepends=True)[:60]))
    train_byte_bpe(read_documents(str(source), "text", key="python"), 2048, folder / "tokenizer")
    return [
        "model=llama_1m",
        f"tokenizer.path={folder}/tokenizer",
        f"data.sources.python.path={source}",
        "data.validation.python.source=python",
        "data.validation.python.share=0.05",
        "data.context_length=128",
        "trainer=cpu",
        "trainer.max_steps=3",
        "trainer.batch_tokens=2048",
        "trainer.threads=1",
        "trainer.final_checkpoint=none",
    ]


def measure(folder: Path, base: list[str], name: str, trials: int) -> list[dict[str, float]]:
    """Run a study in this process as a worker does; the seconds of each trial by stage."""
    from harness.cli.worker import preload
    from harness.runs.locks import hold
    from harness.search.attempts import AttemptServer
    from harness.search.loading import load_sweep
    from harness.search.opening import open_study
    from harness.search.study import Claim, Study

    path = folder / f"{name}.yaml"
    path.write_text(json.dumps({**SWEEP, "base": base, "budget": {"trials": trials + 2}, "launcher": {"workers": 1}}))
    sweep = load_sweep(str(path), [])
    directory = open_study(sweep)
    lock = hold(directory.worker_lock("benchmark"))
    assert lock is not None
    study = Study(directory, sweep, "benchmark")
    server = AttemptServer(timed_attempt, ["trial_overhead", *preload(directory)])
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
        assert result.state == "complete", (result.reason, claim.run.log.read_text())
        marks = json.loads((claim.run.path / "marks.json").read_text())
        spent: dict[str, float] = marks["spent"]
        seconds = {"claim": claimed - began, "prepare": prepared - claimed, "fork": marks["entered"] - prepared, **spent}
        seconds["rest of the attempt"] = marks["step_begins"] - marks["entered"] - sum(spent.values())
        seconds["together"] = marks["step_begins"] - began - spent[EVALUATION]
        seconds[FIRST_STEP] = marks["step_ends"] - marks["step_begins"]
        measured.append(seconds)
    # The first trials tokenize, and find cold files: a worker is warm after them.
    return measured[2:]


def timed_attempt(directory: str) -> int:
    """An attempt as in any study, with a clock around its parts."""
    entered = time.perf_counter()
    from harness.training import provenance, run, step_end
    from harness.work import attempt

    spent: dict[str, float] = {}

    def clocked(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **keywords: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                spent[stage] = spent.get(stage, 0.0) + time.perf_counter() - began

        return wrapper

    parts: dict[str, list[tuple[Any, str]]] = {
        "configuration": [(attempt, "load_file")],
        "provenance": [(provenance, "versions"), (provenance, "git_commit"), (provenance, "hardware")],
        "tokenizer": [(run, "load_tokenizer"), (run, "tokenizer_fingerprint")],
        "data": [(run, "build_training_data"), (run, "build_validation_data"), (run, "build_plan")],
        "model": [(run, "build_model"), (run, "isolate_documents"), (run, "model_fingerprint")],
        "trainer": [(run, "build_trainer")],
        EVALUATION: [(step_end, "evaluate")],
    }
    for stage, functions in parts.items():
        for owner, name in functions:
            setattr(owner, name, clocked(stage, getattr(owner, name)))
    marks: dict[str, Any] = {"entered": entered}
    original = step_end.StepEnd.on_train_batch_end

    def on_train_batch_start(self: Any, *arguments: Any, **keywords: Any) -> None:
        if "step_begins" not in marks:
            marks.update(step_begins=time.perf_counter(), spent=dict(spent))

    def on_train_batch_end(self: Any, *arguments: Any, **keywords: Any) -> None:
        if "step_ends" not in marks:
            marks["step_ends"] = time.perf_counter()
            (Path(directory) / "marks.json").write_text(json.dumps(marks))
        original(self, *arguments, **keywords)

    step_end.StepEnd.on_train_batch_start = on_train_batch_start  # type: ignore[method-assign]
    step_end.StepEnd.on_train_batch_end = on_train_batch_end  # type: ignore[method-assign]
    return attempt.attempt_trial(directory)


def _print(tracking: str, measured: list[dict[str, float]]) -> None:
    print(f"\ntracking={tracking}, {len(measured)} trials: seconds        p50     p95")
    for stage in [*STAGES, "together", EVALUATION, FIRST_STEP]:
        values = sorted(seconds.get(stage, 0.0) for seconds in measured)
        p95 = values[min(len(values) - 1, round(0.95 * len(values)))]
        print(f"  {stage:40} {statistics.median(values):7.3f} {p95:7.3f}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
