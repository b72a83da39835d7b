"""A table of learning curves for `benchmarks.simulate`: every combination of a small grid, trained for real.

    python -m benchmarks.make_table --model stories260k --target python-docs.jsonl.gz --general tinystories.jsonl.gz --out TABLE.csv
        [--folder DIR] [--rates 1e-3 …] [--shares 0 …] [--steps 12 36 108] [--fractions 0.2 …] [--shapes 1-sqrt …] [--batch-tokens 1024]
        [--warmup 4] [--schedules wsd cosine] [--metric-tokens 4096]

Grid searches, `harness sweep`: WSD over decay fractions and shapes, whose trials share their trunks, and cosine. The row of each
evaluation becomes a row of the table (see `benchmarks.simulation.table` for the format). A folder that was kept goes on where it
stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.workload import adaptation, harness
from harness.runs.directory import StudyDirectory
from harness.runs.record import load_study

METRICS = ("val/target/loss", "val/general/loss", "val/general/forgetting")
COLUMNS = ("optim.lr", "data.replay_share", "schedule", "schedule.decay_fraction", "schedule.decay_shape", "trainer.max_steps")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "target", "general", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--folder", type=Path, help="where the studies are kept; default: a temporary one")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 3e-3, 1e-2, 3e-2])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.25])
    parser.add_argument("--steps", type=int, nargs="+", default=[12, 36, 108])
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.2, 0.5])
    parser.add_argument("--shapes", nargs="+", default=["1-sqrt", "linear"])
    parser.add_argument("--schedules", nargs="+", default=["wsd", "cosine"])
    parser.add_argument("--batch-tokens", type=int, default=1024)
    parser.add_argument("--warmup", type=int, default=4, help="steps")
    parser.add_argument("--metric-tokens", type=int, default=4096, help="of each domain that an evaluation looks at")
    parser.add_argument("--read-only", action="store_true", help="write the table from the studies in --folder as far as they are")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for schedule in given.schedules:
            if not given.read_only:
                _train(folder, schedule, given)
            rows += _rows(StudyDirectory(folder / "runs" / schedule), schedule)
    rows.sort(key=lambda row: [str(row.get(column, "")) for column in (*COLUMNS[2:], *COLUMNS[:2])] + [row["step"]])
    with given.out.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*COLUMNS, "step", "tokens", *METRICS], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{given.out}: {len(rows)} rows")


def _train(folder: Path, schedule: str, given: argparse.Namespace) -> None:
    decays = {"schedule.decay_fraction": {"choices": given.fractions}, "schedule.decay_shape": {"choices": given.shapes}}
    space = {
        "optim.lr": {"choices": given.rates},
        "data.replay_share": {"choices": given.shares},
        "trainer.max_steps": {"choices": given.steps},
        **(decays if schedule == "wsd" else {}),
    }
    base = [
        *adaptation(given.model, given.target, given.general, metric_tokens=given.metric_tokens),
        f"schedule={schedule}",
        f"schedule.warmup={given.warmup}",
        f"trainer.max_steps={max(given.steps)}",
        f"trainer.batch_tokens={given.batch_tokens}",
        f"trainer.evaluate_every_steps={min(given.steps)}",
    ]
    sweep = {
        "base": base,
        "objective": {"metric": METRICS[0]},
        "space": space,
        "search": "grid",
        "launcher": {"name": "local", "workers": 1},
    }
    path = folder / f"{schedule}.yaml"
    path.write_text(json.dumps(sweep))
    environment = {**os.environ, "HARNESS_RUNS": str(folder / "runs")}
    subprocess.run(harness("--trust", path, "sweep", path), env=environment, check=True)


def _rows(study: StudyDirectory, schedule: str) -> list[dict[str, Any]]:
    """The evaluations of the complete trials."""
    return [
        {
            "schedule": schedule,
            **run.params,
            **{key: row[key] for key in ("step", "tokens")},
            **{metric: round(row[metric], 5) for metric in METRICS},
        }
        for run in load_study(study).runs
        if run.state == "complete"
        for row in run.rows
        if METRICS[0] in row
    ]


if __name__ == "__main__":
    main()
