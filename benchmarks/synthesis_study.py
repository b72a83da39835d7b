"""What a search over recipes for synthetic data gains over seeds: the best recipe, the recipe as it ships, and real text alone.

    python -m benchmarks.synthesis_study --teacher MODEL --text tinystories.jsonl.gz [--tokenizer stories260k] [--seeds 3] [--trials 8]

For every seed sweeps/synthesis.yaml trains small students from scratch, all on equally many tokens. Real text are the first --real
documents; the teacher goes on from the beginnings of the --rows next ones; the rest is held out. Trials are chosen on half of it; all
figures are of the other half, in nats per token. The recipe as it ships is trained on alone, and with as much real text. Texts of teachers
are shared by all trials and seeds. One process trains at a time, on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import harness
from benchmarks.workload import require, require_paths
from harness.data.sources import read_documents
from harness.runs.on_report import on_report
from harness.runs.record import StudyRecord, load_study
from harness.runs.result import TeacherLedger

REPORTED = "val/real/report/loss"
MADE, TEACHER = "data.sources.made.synth", "teachers.teacher"
STUDENT = ["model.hidden_size=64", "model.intermediate_size=176", "model.layers=2", "model.heads=2", "optim.lr=3e-3", "schedule.warmup=5"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, help="a model")
    parser.add_argument("--tokenizer", type=Path, help="the students', a model or folder; default: the teacher's")
    parser.add_argument("--text", type=Path, required=True, help="documents, JSON lines with text")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=8, help="of each study")
    parser.add_argument("--real", type=int, default=60, help="documents of real text to train on")
    parser.add_argument("--rows", type=int, default=300, help="texts of the teacher, of each recipe")
    parser.add_argument("--new-tokens", type=int, default=150, help="of each of them, at most")
    parser.add_argument("--steps", type=int, default=100, help="of 2,048 tokens, of each student")
    parser.add_argument("--held-out", type=int, default=200, help="documents")
    arguments = parser.parse_args()
    arguments.tokenizer = arguments.tokenizer or arguments.teacher
    require_paths(arguments.teacher, arguments.tokenizer, arguments.text, hint="see --teacher, --tokenizer, --text")
    began, found = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as temporary:
        given = overrides(arguments, Path(temporary))
        for seed in range(1, arguments.seeds + 1):
            found.append(of_seed(given, seed, arguments.trials, Path(temporary) / f"seed-{seed}"))
            print(f"seed {seed}: {time.perf_counter() - began:.0f} s, {found[-1]}", file=sys.stderr, flush=True)
    used = sum(os.times()[:4])
    print(f"{arguments.seeds} seeds, {os.cpu_count()} cores, {used:.0f} s of the processors, {time.perf_counter() - began:.0f} s\n")
    print(f"| what | mean (sd) | {' | '.join(f'seed {n + 1}' for n in range(len(found)))} |")
    print("|---|---|" + "---|" * len(found))
    for label in found[0]:
        values = [one[label] for one in found]
        digits = 4 if label.startswith(REPORTED) else 0
        spread = f" ({statistics.stdev(values):,.{digits}f})" if len(values) > 1 else ""
        shown = " | ".join(f"{value:,.{digits}f}" for value in values)
        print(f"| {label} | {statistics.mean(values):,.{digits}f}{spread} | {shown} |")


def overrides(arguments: argparse.Namespace, folder: Path) -> list[str]:
    """Write the texts; what all runs are given."""
    documents = read_documents(str(arguments.text), "text", key="--text")
    files = {}
    for name, count in (("real", arguments.real), ("docs", arguments.rows), ("held", arguments.held_out)):
        rows = list(islice(documents, count))
        require(len(rows) == count, f"{arguments.real + arguments.rows + arguments.held_out} documents in --text")
        files[name] = folder / f"{name}.jsonl"
        files[name].write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    teacher = arguments.teacher.resolve()
    return [
        f"tokenizer.path={arguments.tokenizer.resolve()}",
        f"{MADE}.seeds.docs.path={files['docs']}",
        f"{MADE}.{TEACHER}.model={teacher}",
        f"{MADE}.{TEACHER}.overrides=['trainer.threads=1']",
        f"{MADE}.steps.text.max_new_tokens={arguments.new_tokens}",
        f"data.sources.real.path={files['real']}",
        f"data.validation.real.path={files['held']}",
        f"data.cache_dir={folder / 'cache'}",
        "data.report_share=0.5",
        "data.context_length=128",
        *STUDENT,
        "trainer=cpu",
        "trainer.threads=1",
        "trainer.batch_tokens=2048",
        f"trainer.max_tokens={arguments.steps * 2048}",
        "tracking=none",
    ]


def of_seed(given: list[str], seed: int, trials: int, folder: Path) -> dict[str, float]:
    """All figures of one seed."""
    os.environ["HARNESS_RUNS"] = str(folder)
    own = [f"seed={seed}", f"search.seed={seed}", f"search.startup_trials={max(1, trials // 3)}", f"budget.trials={trials}"]
    study = load_study(harness.sweep("synthesis", *given, *own, "launcher.workers=1", name="study", progress=False)._directory)
    winner = on_report(study)
    assert winner is not None, "half of the documents are reported on"
    print(f"seed {seed}: winner {winner.winner.number}, {winner.winner.params}", file=sys.stderr)
    real = next((rival.value for rival in winner.rivals if rival.kind == "real"), winner.value)  # else it is the winner itself
    ledger = teachers_of(study)
    return {
        f"{REPORTED}: the best recipe": winner.value,
        f"{REPORTED}: real text alone": real,
        f"{REPORTED}: the recipe as it ships, alone": trained(given, seed, folder / "alone", "~data.sources.real"),
        f"{REPORTED}: the recipe as it ships, and as much real text": trained(given, seed, folder / "half"),
        "teachers' tokens of the study": ledger.spent,
        "teachers' tokens that shared texts saved": ledger.saved,
    }


def trained(given: list[str], seed: int, directory: Path, *words: str) -> float:
    """What a student of the recipe as it ships reaches."""
    config = harness.load("experiment=synthesis", *given, f"seed={seed}", *words)
    return harness.train(config, directory=directory, progress=False).metrics[REPORTED]


def teachers_of(study: StudyRecord) -> TeacherLedger:
    return TeacherLedger.of(run.result for run in study.runs)


if __name__ == "__main__":
    main()
