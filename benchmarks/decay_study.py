"""What trunks save in a study of decays: tokens trained against the same trials from scratch.

    python -m benchmarks.decay_study [--steps 200] [--fraction 0.2]

A real sweep over eight decays (two shapes, two floors, two averaging coefficients) of a model of 1 M parameters on Python source, on two
workers. One of the branches is then trained from scratch: its weights must be the same to the last bit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.workload import harness, python_text, timed

SPACE: dict[str, Any] = {
    "schedule.decay_shape": {"choices": ["linear", "1-sqrt"]},
    "schedule.floor": {"choices": [0.0, 0.1]},
    "schedule.decay_betas": {"choices": [None, [0.9, 0.99]]},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--fraction", type=float, default=0.2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(HARNESS_RUNS=f"{folder}/runs", HARNESS_CACHE=f"{folder}/cache")
        measure(Path(folder), arguments.steps, arguments.fraction)


def measure(folder: Path, steps: int, fraction: float) -> None:
    """Run the study and print its figures."""
    import torch

    from harness.models.checkpoint_files import checkpoints
    from harness.runs.directory import RunDirectory, StudyDirectory, runs_root
    from harness.runs.result import read_result

    base = [
        *python_text(folder, documents=150, vocabulary=1024),
        "model=llama_1m",
        "schedule=wsd",
        "schedule.warmup=10",
        f"schedule.decay_fraction={fraction}",
        f"trainer.max_steps={steps}",
        "trainer.batch_tokens=2048",
        "data.validation.python.source=python",
        "data.validation.python.share=0.02",
        "data.validation.python.max_tokens=8192",
    ]
    document = {"base": base, "objective": {"metric": "val/python/loss"}, "space": SPACE, "search": "grid", "budget": {"trials": 8}}
    sweep = folder / "decays.yaml"
    sweep.write_text(json.dumps(document))
    subprocess.run(harness("sweep", sweep, "--workers", "2"), check=True, stdout=sys.stderr)
    study = StudyDirectory(runs_root() / "decays")
    results = [read_result(run) for run in study.trials()]
    trained = sum(result.tokens.trained for result in results)
    whole = sum(result.tokens.trained + result.tokens.shared for result in results)
    branch = next(run for run in study.trials() if read_result(run).tokens.shared)
    scratch = folder / "scratch"
    timed(harness("train", "--config", branch.config, "--dir", scratch))
    states = []
    for run in (branch, RunDirectory(scratch)):
        stored = checkpoints(run.checkpoints)
        states.append(torch.load(stored[max(stored)], weights_only=True)["state_dict"])
    same = all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    print(
        f"{len(results)} trials of {steps} steps, decay {fraction:.0%}: {trained:,} tokens trained for {whole:,}: {whole / trained:.2f} x"
    )
    print(f"a branch against the same run from scratch: {'the same bits' if same else 'OTHER WEIGHTS'}")


if __name__ == "__main__":
    main()
