"""What searches hand over for equal tokens, their confirmation included, trained for real on text.

    harness quickstart --trials 1       # once, for the task `quickstart`: text, tokenizer and base model
    python -m benchmarks.confirmed_on_text --task quickstart [--folder DIR] [--seeds 0 1 2 3 4] [--runs 32] [--share 0.34]
    python -m benchmarks.confirmed_on_text --task stories260k --model stories260k --target docs.jsonl.gz --general tinystories.jsonl.gz

`--workers 4` for each search, `--jobs 2` studies at a time.

The tasks are those of `benchmarks.real_search`. A *run* is the tokens of a run of full length; every search has those of `--runs` of them,
and a bound that is to hold with chance 0.9. Searches confirm their best afterwards, 3 candidates over 3 seeds, which is 9 of
their runs; trunk_by_itself divides `--share` of the tokens by itself (search.confirm). What is handed over is the confirmed winner: it is
run again over `--fresh` further seeds, which chose nothing and are not counted. A folder that was kept goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

from rich.progress import Progress

from benchmarks.real_search import SEARCHES, TASKS, Task, add_task_arguments, base_of
from benchmarks.workload import harness
from harness.runs.directory import StudyDirectory
from harness.runs.exit_codes import DONE, FAILED
from harness.runs.record import load_study
from harness.search.confirm import different_configurations
from harness.search.sweep import thaw

TOP, CONFIRM_SEEDS = 3, 3
CHANCE = 0.9
LOSS, FORGETTING = "val/target/loss", "val/general/forgetting"
BY_ITSELF = "trunk_by_itself"
CONTENDERS = {**SEARCHES, BY_ITSELF: [*SEARCHES["trunk"][:-1], "search.confirm=true"]}
FIRST_FRESH_SEED = 90_000


@dataclass(frozen=True)
class HandedOver:
    """The winner of one study over seeds that did not choose it."""

    losses: list[float]
    """Empty where no winner was confirmed."""
    forgetting: list[float]
    runs: float
    """What search and confirmation took."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_task_arguments(parser)
    parser.add_argument("--searches", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--runs", type=int, default=32, help="so many runs have the tokens of a search and its confirmation")
    parser.add_argument("--share", type=float, default=0.34, help=f"of the tokens, for {BY_ITSELF}")
    parser.add_argument("--workers", type=int, default=1, help="of each search, on this machine")
    parser.add_argument("--fresh", type=int, default=8, help="further seeds for what is handed over")
    given = parser.parse_args()
    task = TASKS[given.task]
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        studies = [(search, seed) for seed in given.seeds for search in given.searches]
        with Progress() as progress, ThreadPoolExecutor(given.jobs) as jobs:
            bar = progress.add_task("studies", total=len(studies))

            def follow(study: tuple[str, int]) -> tuple[tuple[str, int], HandedOver]:
                found = _handed_over(folder, task, *study, given)
                progress.advance(bar)
                return study, found

            found = dict(jobs.map(follow, studies))
        _report(found, task, given)


def _handed_over(folder: Path, task: Task, search: str, seed: int, given: argparse.Namespace) -> HandedOver:
    name, whole = f"{search}-{seed}", task.steps * task.batch_tokens
    base = base_of(task, given.model, given.target, given.general)
    runs = given.runs * given.share if search == BY_ITSELF else given.runs - TOP * CONFIRM_SEEDS
    words = [*CONTENDERS[search], f"search.seed={seed}", f"budget.tokens={int(runs * whole)}"]
    if any(word.startswith("stopping") for word in words):
        words.append(f"trainer.evaluate_every_steps={task.rung_steps}")
    bound = {"max": task.forgetting, "chance": CHANCE}
    _run_study(folder, name, {"base": base, "constraints": {FORGETTING: bound}, "space": task.space}, words, given.workers)
    directory = StudyDirectory(folder / name / name)
    study = load_study(directory)
    candidates = min(TOP, len(different_configurations(study, thaw(directory.sweep))))
    if search != BY_ITSELF and candidates:
        _command(folder, name, ["confirm", name, "--top", candidates, "--seeds", CONFIRM_SEEDS])
        study = load_study(directory)
    confirming = study.confirmation.directory if study.confirmation else None
    charged = [*study.runs, *(load_study(confirming).runs if confirming else [])]
    took = sum(run.result.tokens.trained for run in charged) / whole
    if study.confirmed is None:
        return HandedOver([], [], took)
    (winner,) = (run for run in study.runs if run.number == study.confirmed.number)
    params = [f"{key}={json.dumps(value)}" for key, value in winner.params.items()]
    fresh = {"seed": {"choices": [FIRST_FRESH_SEED + place for place in range(given.fresh)]}}
    _run_study(folder, f"{name}-fresh", {"base": [*base, *params], "space": fresh}, ["search=grid"], 1)
    again = load_study(StudyDirectory(folder / f"{name}-fresh" / f"{name}-fresh")).runs
    metrics = [run.result.metrics for run in again if run.state == "complete"]
    return HandedOver([row[LOSS] for row in metrics], [row[FORGETTING] for row in metrics], took)


def _run_study(folder: Path, name: str, sweep: dict[str, Any], words: list[str], workers: int) -> None:
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps({**sweep, "objective": {"metric": LOSS}, "launcher": {"name": "local", "workers": workers}}, indent=1))
    _command(folder, name, ["--trust", path, "sweep", path, "--name", name, *words])


def _command(folder: Path, name: str, words: list[Any]) -> None:
    # Trunks are shared by all studies of a folder of runs; here each is to pay for its own.
    environment = {**os.environ, "HARNESS_RUNS": str(folder / name), "OMP_NUM_THREADS": "1"}
    with (folder / f"{name}.log").open("a") as log:
        done = subprocess.run(harness(*map(str, words)), env=environment, stdout=log, stderr=log)
    # Nothing that holds the bound: a result, too.
    if done.returncode not in (DONE, FAILED):
        raise SystemExit(f"{words[0]} of {name}: exit code {done.returncode}; see {log.name}")


def _report(found: dict[tuple[str, int], HandedOver], task: Task, given: argparse.Namespace) -> None:
    print(f"\nOver {given.fresh} further seeds each, {len(given.seeds)} studies of each search:\n")
    print(f"| search | runs | winners | loss, median | worst | by seed | runs within the bound | chance of holding >= {CHANCE} |")
    print("|---|---|---|---|---|---|---|---|")
    for search in given.searches:
        studies = [found[search, seed] for seed in given.seeds]
        won = [one for one in studies if one.losses]
        losses = [statistics.fmean(one.losses) for one in won]
        within = [value <= task.forgetting for one in won for value in one.forgetting]
        chances = [_chance(one.forgetting, task.forgetting) for one in won]
        cells = [
            search,
            f"{statistics.median(one.runs for one in studies):.1f}",
            f"{len(won)} of {len(studies)}",
            *([f"{statistics.median(losses):.4f}", f"{max(losses):.4f}"] if losses else ["", ""]),
            ", ".join(f"{statistics.fmean(one.losses):.4f}" if one.losses else "none" for one in studies),
            f"{sum(within)} of {len(within)}",
            f"{sum(chance >= CHANCE for chance in chances)} of {len(won)}",
        ]
        print("|", " | ".join(cells), "|", flush=True)


def _chance(values: list[float], bound: float) -> float:
    """That a run with another seed meets the bound, if seeds scatter it as these did."""
    return NormalDist(statistics.fmean(values), statistics.stdev(values)).cdf(bound)


if __name__ == "__main__":
    main()
