"""Final losses over rate and batch, for models of several sizes trained over several lengths: the table of `benchmarks.earlier_grids`.

    python -m benchmarks.make_size_grids --models small large --target python-docs.jsonl.gz --out TABLE.csv [--folder DIR]
        [--tokens 12000 …] [--batches 128 …] [--rates 1e-3 …] [--metric-tokens 8192] [--workers 1] [--read-only]

Grid searches, `harness sweep`, one for each model and length, all of one seed: a cosine with a warm-up of a tenth. A folder that was kept
goes on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import subprocess
import tempfile
from pathlib import Path

from benchmarks.workload import harness, require_paths
from harness.config.schema import ModelConfig
from harness.runs.directory import StudyDirectory
from harness.runs.record import load_study
from harness.search.scaling import model_size

TOKENS, BATCH, RATE = "trainer.max_tokens", "trainer.batch_tokens", "optim.lr"
LOSS = "val/target/loss"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, nargs="+", required=True)
    for name in ("target", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--folder", type=Path, help="where the studies are kept; default: a temporary one")
    parser.add_argument("--tokens", type=int, nargs="+", default=[12_000, 36_000])
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-3, 4e-3, 8e-3, 1.6e-2])
    parser.add_argument("--metric-tokens", type=int, default=8192)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--read-only", action="store_true", help="write the table from the studies in --folder as far as they are")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for tokens, model in itertools.product(given.tokens, given.models):
            if not given.read_only:
                _train(folder, model, tokens, given)
            rows += _rows(StudyDirectory(folder / "runs" / _name(model, tokens)), model, tokens)
    with given.out.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["size", TOKENS, BATCH, RATE, LOSS])
        writer.writerows(sorted(rows))
    print(f"{given.out}: {len(rows)} rows")


def _name(model: Path, tokens: int) -> str:
    return f"{model.resolve().name}_{tokens}"


def _train(folder: Path, model: Path, tokens: int, given: argparse.Namespace) -> None:
    require_paths(model, given.target, hint="see --models, --target")
    sweep = {
        "base": [
            "model=pretrained",
            f"model.path={model.resolve()}",
            f"data.sources.target.path={given.target.resolve()}",
            f"data.validation.target={{source: target, share: 0.05, max_tokens: {given.metric_tokens}}}",
            "data.context_length=32",
            "schedule=cosine",
            "schedule.warmup=10%",
            f"trainer.max_tokens={tokens}",
            "trainer.accelerator=cpu",
            "trainer.threads=1",
            "trainer.final_checkpoint=none",
            "tracking=none",
        ],
        "objective": {"metric": LOSS},
        "space": {BATCH: {"choices": given.batches}, RATE: {"choices": given.rates}},
        "search": "grid",
        "launcher": {"name": "local", "workers": given.workers},
    }
    path = folder / f"{_name(model, tokens)}.yaml"
    path.write_text(json.dumps(sweep))
    subprocess.run(harness("--trust", path, "sweep", path), env={**os.environ, "HARNESS_RUNS": str(folder / "runs")}, check=True)


def _rows(study: StudyDirectory, model: Path, tokens: int) -> list[tuple[float, ...]]:
    """The complete trials, if the study was begun."""
    size = model_size(ModelConfig(path=str(model.resolve())))
    runs = load_study(study).runs if study.sweep.is_file() else []
    return [
        (size, tokens, run.params[BATCH], run.params[RATE], round(run.result.metrics[LOSS], 5)) for run in runs if run.state == "complete"
    ]


if __name__ == "__main__":
    main()
