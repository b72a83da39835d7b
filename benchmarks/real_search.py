"""Searches on text, trained for real: random, TPE, TPE + successive halving, TPE + Hyperband and trunk search, for equal tokens.

    harness quickstart --trials 1       # once, for the task `quickstart`: text, tokenizer and base model
    python -m benchmarks.real_search --task quickstart [--folder DIR] [--seeds 0 1 2 3 4] [--jobs 2] [--runs 64]
    python -m benchmarks.real_search --task stories260k --model stories260k --target python-docs.jsonl.gz --general tinystories.jsonl.gz

A *run* is the tokens of a run of full length. Every search has those of `--runs` of them (trunk search: `--share` of these), one worker,
and a study of its own by `harness sweep`; what it found is then run again over fresh seeds by `harness confirm`, in rounds: the best three
of the search, and then whatever was better in the search than what is confirmed and is expected to hold the constraint.
A search has found something when the trial has ended, holds the constraint, and is a run of full length; what it had cost by then is all
that was trained by trials that ended no later. A folder that was kept goes on where it stopped; --read-only reads it as far as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress

from benchmarks.workload import SPACE, adaptation, harness
from harness.runs.confirmation import Confirmation
from harness.runs.directory import StudyDirectory
from harness.runs.exit_codes import DONE, FAILED
from harness.runs.record import load_study

SEARCHES = {
    "tpe": ["search=tpe"],
    "trunk": ["search=trunk", "search.rungs=3", "search.confirm=false"],
    "halving": ["search=tpe", "stopping=successive_halving"],
    "hyperband": ["search=tpe", "stopping=hyperband"],
    "random": ["search=random"],
}
SPANS = (4, 8, 64 / 6, 16, 32, 64)
"""In runs."""


@dataclass(frozen=True)
class Task:
    """What is searched; where the text and the model are is said on the command line."""

    steps: int
    batch_tokens: int
    rung_steps: int
    """Of the first evaluation, by which pruners judge first: a ninth of the steps, as trunk search's first rung has."""
    forgetting: float
    """At most, in nats."""
    space: dict[str, Any]
    overrides: tuple[str, ...]


TASKS = {
    "stories260k": Task(
        steps=108,
        batch_tokens=512,
        rung_steps=12,
        forgetting=1.0,
        space={
            "optim.lr": {"low": 1e-3, "high": 1e-1, "log": True},
            "data.replay_share": {"low": 0.0, "high": 0.5},
            "schedule.decay_fraction": {"low": 0.1, "high": 0.5},
            "schedule.decay_shape": {"choices": ["linear", "1-sqrt"]},
        },
        overrides=("schedule=wsd", "schedule.warmup=4"),
    ),
    # sweeps/quickstart.yaml, with runs of a third of its length.
    "quickstart": Task(
        steps=72,
        batch_tokens=512,
        rung_steps=8,
        forgetting=0.3,
        space=SPACE,
        overrides=("schedule.warmup=4",),
    ),
}


@dataclass(frozen=True)
class Ended:
    """What a study had found when one more trial had ended."""

    tokens: int
    """Trained by all trials that had ended."""
    best: float | None
    """Objective of the best run of full length within the constraint so far."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_task_arguments(parser)
    parser.add_argument("--searches", nargs="+", default=list(SEARCHES), choices=list(SEARCHES))
    parser.add_argument("--runs", type=int, default=64, help="so many runs have the tokens of a search")
    parser.add_argument("--share", type=float, default=0.25, help="of the tokens, for trunk search")
    parser.add_argument("--top", type=int, default=3, help="configurations that are run again, a round")
    parser.add_argument("--rounds", type=int, default=3, help="of these, at most")
    parser.add_argument("--confirm-seeds", type=int, default=3, help="over so many fresh seeds each")
    parser.add_argument("--read-only", action="store_true", help="read the studies in --folder as far as they are")
    given = parser.parse_args()
    task = TASKS[given.task]
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if not given.read_only:
            sweep = _sweep(folder, task, given)
            studies = [(search, seed) for seed in given.seeds for search in given.searches]
            with Progress() as progress, ThreadPoolExecutor(given.jobs) as jobs:
                bar = progress.add_task("studies", total=len(studies))
                for _ in jobs.map(lambda study: _study(folder, sweep, study[0], study[1], task, given), studies):
                    progress.advance(bar)
        _report(folder, task, given)


def add_task_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", choices=list(TASKS), default="quickstart")
    parser.add_argument("--folder", type=Path, help="where the studies are kept; default: a temporary one")
    parser.add_argument("--model", type=Path, default=Path("quickstart/base"))
    parser.add_argument("--target", type=Path, default=Path("quickstart/text/python.jsonl"))
    parser.add_argument("--general", type=Path, default=Path("quickstart/text/english.jsonl"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=1, help="studies at a time, of one worker and one thread each")


def base_of(task: Task, model: Path, target: Path, general: Path) -> list[str]:
    """Overrides of all runs of a task."""
    return [
        *adaptation(model, target, general),
        f"trainer.max_steps={task.steps}",
        f"trainer.batch_tokens={task.batch_tokens}",
        *task.overrides,
    ]


def _sweep(folder: Path, task: Task, given: argparse.Namespace) -> Path:
    """The sweep file that all searches run."""
    sweep = {
        "base": base_of(task, given.model, given.target, given.general),
        "objective": {"metric": "val/target/loss"},
        "constraints": {"val/general/forgetting": {"max": task.forgetting}},
        "space": task.space,
        "launcher": {"name": "local", "workers": 1},
    }
    path = folder / "search.yaml"
    path.write_text(json.dumps(sweep, indent=1))
    return path


def _study(folder: Path, sweep: Path, search: str, seed: int, task: Task, given: argparse.Namespace) -> None:
    """One search, and what it found over fresh seeds."""
    name, tokens = f"{search}-{seed}", given.runs * task.steps * task.batch_tokens
    words = [*SEARCHES[search], f"search.seed={seed}", f"budget.tokens={int(tokens * (given.share if search == 'trunk' else 1))}"]
    if any(word.startswith("stopping") for word in words):
        words.append(f"trainer.evaluate_every_steps={task.rung_steps}")
    # Trunks are shared by all studies of a folder of runs; here each is to pay for its own.
    environment = {**os.environ, "HARNESS_RUNS": str(folder / name), "OMP_NUM_THREADS": "1"}
    with (folder / f"{name}.log").open("a") as log:
        subprocess.run(
            harness("--trust", sweep, "sweep", sweep, "--name", name, *words), env=environment, check=True, stdout=log, stderr=log
        )
        confirm = ["--top", given.top, "--seeds", given.confirm_seeds, "--rounds", given.rounds]
        # Exit code 1 where nothing that was found holds the constraint with other seeds: that is a result.
        done = subprocess.run(harness("confirm", name, *map(str, confirm)), env=environment, stdout=log, stderr=log)
        if done.returncode not in (DONE, FAILED):
            raise SystemExit(f"harness confirm {name}: exit code {done.returncode}; see {log.name}")


def _ended(folder: Path, search: str, seed: int) -> list[Ended]:
    """The trials of a study in the order in which they ended."""
    study = _directory(folder, search, seed)
    if not study.sweep.exists():
        return []
    runs = [run for run in load_study(study).runs if run.state in ("complete", "failed", "pruned")]
    runs.sort(key=lambda run: run.directory.metrics.path.stat().st_mtime)
    rungs = {run.number: (run.trial.rung or 0) if run.trial is not None else 0 for run in runs}
    last_rung = max(rungs.values(), default=0)
    tokens, best, found = 0, None, []
    for run in runs:
        tokens += run.result.tokens.trained
        whole = rungs[run.number] == last_rung
        objective = run.result.objective
        if whole and run.state == "complete" and run.result.feasible and objective is not None:
            best = objective if best is None else min(best, objective)
        found.append(Ended(tokens, best))
    return found


def _confirmation(folder: Path, search: str, seed: int) -> Confirmation | None:
    """None where it has not ended."""
    study = _directory(folder, search, seed)
    confirmation = load_study(study).confirmation if study.sweep.exists() else None
    return confirmation if confirmation is not None and confirmation.is_complete else None


def _confirmed(confirmation: Confirmation | None) -> float | None:
    """Mean over fresh seeds of the best of those that hold the constraint in the mean; None where none does."""
    winner = confirmation.winner if confirmation else None
    return statistics.fmean(winner.values.values()) if winner else None


def _said(confirmation: Confirmation | None) -> str:
    mean = _confirmed(confirmation)
    return "" if confirmation is None else "none" if mean is None else f"{mean:.4f}"


def _directory(folder: Path, search: str, seed: int) -> StudyDirectory:
    return StudyDirectory(folder / f"{search}-{seed}" / f"{search}-{seed}")


def _report(folder: Path, task: Task, given: argparse.Namespace) -> None:
    """The target is what TPE found with all its tokens: in the median of the seeds, and with the same seed."""
    whole = task.steps * task.batch_tokens
    found = {search: {seed: ended for seed in given.seeds if (ended := _ended(folder, search, seed))} for search in dict.fromkeys(SEARCHES)}
    own_targets = {seed: ended[-1].best for seed, ended in found["tpe"].items()}
    finals = [best for best in own_targets.values() if best is not None]
    target = statistics.median(finals) if finals else None
    tpe = [_reached(ended, target) for ended in found["tpe"].values()]
    print(f"\nTPE's best in the median of {len(finals)} seeds: {target}\n")
    columns = "search, seeds, trials, tokens in runs, best, worst seed, candidates, confirmed, in seeds"
    columns += ", reaches TPE's best after, in seeds, TPE / it"
    print("|", columns.replace(", ", " | "), "|\n" + "|---" * len(columns.split(", ")) + "|")
    for search, seeds in found.items():
        if not seeds:
            continue
        bests = [ended[-1].best for ended in seeds.values()]
        reached = [_reached(ended, target) for ended in seeds.values()]
        confirmations = [run_again for seed in seeds if (run_again := _confirmation(folder, search, seed))]
        confirmed = [mean for confirmation in confirmations if (mean := _confirmed(confirmation)) is not None]
        of_tpe, own = _middle(tpe), _middle(reached)
        cells = [
            search,
            str(len(seeds)),
            f"{statistics.median(len(ended) for ended in seeds.values()):.0f}",
            f"{statistics.median(ended[-1].tokens for ended in seeds.values()) / whole:.1f}",
            _median(bests),
            "none" if None in bests else f"{max(best for best in bests if best is not None):.4f}",
            f"{statistics.fmean(len(confirmation.candidates) for confirmation in confirmations):.1f}" if confirmations else "",
            _median(confirmed),
            f"{len(confirmed)} of {len(seeds)}",
            _runs(own, whole),
            f"{sum(tokens is not None for tokens in reached)} of {len(reached)}",
            "" if own is None or of_tpe is None else f"{of_tpe / own:.2f}",
        ]
        print("|", " | ".join(cells), "|")
    print("\n| seed | " + " | ".join(f"{search}: best, confirmed, TPE's best of the seed after" for search in found) + " |")
    print("|---" * (len(found) + 1) + "|")
    for seed in given.seeds:
        cells = []
        for search in found:
            so_far = found[search].get(seed)
            best = None if so_far is None else so_far[-1].best
            cells.append(
                ", ".join(
                    [
                        "none" if best is None else f"{best:.4f}",
                        _said(_confirmation(folder, search, seed)),
                        "" if so_far is None else _runs(_reached(so_far, own_targets.get(seed)), whole),
                    ]
                )
            )
        print("|", " | ".join([str(seed), *cells]), "|")
    print("\n| search | " + " | ".join(f"best after {span:.3g} runs" for span in SPANS) + " |\n" + "|---" * (len(SPANS) + 1) + "|")
    for search, seeds in found.items():
        if seeds:
            spans = [_median([_best_within(ended, span * whole) for ended in seeds.values()]) for span in SPANS]
            print("|", " | ".join([search, *spans]), "|")
    print("\nThe columns are medians of the seeds; a bracket: in so many of them nothing held the constraint yet.")


def _reached(ended: Sequence[Ended], target: float | None) -> int | None:
    """After how many tokens it had found something as good."""
    if target is None:
        return None
    return next((one.tokens for one in ended if one.best is not None and one.best <= target), None)


def _middle(reached: Sequence[int | None]) -> float | None:
    """The median, whoever never gets there being infinitely slow."""
    middle = statistics.median(float("inf") if tokens is None else tokens for tokens in reached) if reached else float("inf")
    return None if middle == float("inf") else middle


def _runs(tokens: float | None, whole: int) -> str:
    return "not" if tokens is None else f"{tokens / whole:.1f} runs"


def _best_within(ended: Sequence[Ended], tokens: float) -> float | None:
    return next((one.best for one in reversed(ended) if one.tokens <= tokens), None)


def _median(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    missing = f" ({len(values) - len(known)})" if len(known) < len(values) else ""
    return (f"{statistics.median(known):.4f}" if known else "none") + missing


if __name__ == "__main__":
    main()
