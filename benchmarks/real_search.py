"""TPE and trunk search on text, trained for real: after how many tokens does trunk search find what TPE finds in 64 full runs?

    harness quickstart --trials 1       # once: text, tokenizer and base model, if no others are named
    python benchmarks/real_search.py [--folder DIR] [--seeds 0 1 2] [--share 0.2] [--read-only]
        [--model stories260k --target python-docs.jsonl.gz --general tinystories.jsonl.gz]

One sweep file, WSD, forgetting at most 1 nat; `harness sweep` runs it with search=tpe for 64 trials and with search=trunk for `share` of
the tokens of these, for each seed. The scale is a run of full length. A folder that was kept goes on where it stopped. A search has found
something when the trial has ended, holds the constraint, and is a run of full length; what it had cost by then is all that was trained by
trials that ended no later.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.runs.directory import StudyDirectory
from harness.runs.record import load_study

SEARCHES = ("tpe", "trunk")
OBJECTIVE, FORGETTING = "val/target/loss", "val/general/forgetting"


@dataclass(frozen=True)
class Ended:
    """What a study had found when one more trial had ended."""

    tokens: int
    """Trained by all trials that had ended."""
    best: float | None
    """Objective of the best run of full length within the constraint so far."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the studies are kept; default: a temporary one")
    parser.add_argument("--model", type=Path, default=Path("quickstart/base"))
    parser.add_argument("--target", type=Path, default=Path("quickstart/text/python.jsonl"))
    parser.add_argument("--general", type=Path, default=Path("quickstart/text/english.jsonl"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--searches", nargs="+", default=list(SEARCHES), choices=SEARCHES)
    parser.add_argument("--trials", type=int, default=64, help="of TPE")
    parser.add_argument("--share", type=float, default=0.2, help="of TPE's tokens, for trunk search")
    parser.add_argument("--steps", type=int, default=324)
    parser.add_argument("--batch-tokens", type=int, default=512)
    parser.add_argument("--warmup", type=int, default=6, help="steps")
    parser.add_argument("--rungs", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--metric-tokens", type=int, default=4096, help="of each domain that an evaluation looks at")
    parser.add_argument("--read-only", action="store_true", help="read the studies in --folder as far as they are")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        whole = given.steps * given.batch_tokens
        if not given.read_only:
            sweep = _sweep(folder, given)
            for seed in given.seeds:
                for search in given.searches:
                    _search(folder, sweep, search, seed, given)
        found = {
            search: {seed: ended for seed in given.seeds if (ended := _ended(folder, search, seed, given.rungs))} for search in SEARCHES
        }
        _report(found, whole)


def _sweep(folder: Path, given: argparse.Namespace) -> Path:
    base = [
        "model=pretrained",
        f"model.path={given.model.resolve()}",
        "schedule=wsd",
        f"schedule.warmup={given.warmup}",
        "tracking=none",
        *(f"data.sources.{name}.path={getattr(given, name).resolve()}" for name in ("target", "general")),
        "data.sources.general.replay=true",
        *(f"data.validation.{name}={{source: {name}, share: 0.05, max_tokens: {given.metric_tokens}}}" for name in ("target", "general")),
        "data.context_length=128",
        f"trainer.max_steps={given.steps}",
        f"trainer.batch_tokens={given.batch_tokens}",
        "trainer.accelerator=cpu",
        "trainer.threads=1",
        "trainer.final_checkpoint=none",
    ]
    sweep = {
        "base": base,
        "objective": {"metric": OBJECTIVE},
        "constraints": {FORGETTING: {"max": 1.0}},
        "space": {
            "optim.lr": {"low": 1e-3, "high": 1e-1, "log": True},
            "data.replay_share": {"low": 0.0, "high": 0.5},
            "schedule.decay_fraction": {"low": 0.1, "high": 0.5},
        },
        "launcher": {"name": "local", "workers": given.workers},
    }
    path = folder / "search.yaml"
    path.write_text(json.dumps(sweep))
    return path


def _search(folder: Path, sweep: Path, search: str, seed: int, given: argparse.Namespace) -> None:
    tokens = given.trials * given.steps * given.batch_tokens
    words = {
        "tpe": ["search=tpe", f"budget.trials={given.trials}"],
        "trunk": ["search=trunk", f"search.rungs={given.rungs}", f"budget.tokens={int(given.share * tokens)}"],
    }
    command = [sys.executable, "-m", "harness", "sweep", sweep, "--name", f"{search}-{seed}", f"search.seed={seed}", *words[search]]
    environment = {**os.environ, "HARNESS_RUNS": str(folder / "runs")}
    subprocess.run(command, env=environment, check=True, stdout=sys.stderr)


def _ended(folder: Path, search: str, seed: int, rungs: int) -> list[Ended]:
    """The trials of a study in the order in which they ended."""
    study = StudyDirectory(folder / "runs" / f"{search}-{seed}")
    if not study.sweep.exists():
        return []
    runs = [run for run in load_study(study).runs if run.state in ("complete", "failed")]
    runs.sort(key=lambda run: run.directory.metrics.path.stat().st_mtime)
    tokens, best, found = 0, None, []
    for run in runs:
        tokens += run.result.tokens.trained
        whole = search == "tpe" or (run.trial is not None and run.trial.rung == rungs - 1)
        objective = run.result.objective
        if whole and run.state == "complete" and run.result.feasible and objective is not None:
            best = objective if best is None else min(best, objective)
        found.append(Ended(tokens, best))
    return found


def _report(found: dict[str, dict[int, list[Ended]]], whole: int) -> None:
    """One line a seed; a target is what TPE found with all its tokens with the same seed, and in the median of the seeds."""
    finals = [ended[-1].best for ended in found["tpe"].values() if ended[-1].best is not None]
    median = statistics.median(finals) if finals else None
    print("| seed | search | trials | runs' tokens | best | reaches TPE's best of the seed after | TPE / it | reaches the median after |")
    print("|---|---|---|---|---|---|---|---|")
    for seed in sorted({seed for seeds in found.values() for seed in seeds}):
        tpe = found["tpe"].get(seed, [])
        target = tpe[-1].best if tpe else None
        for search in SEARCHES:
            ended = found[search].get(seed, [])
            if not ended:
                continue
            own, base = _reached(ended, target), _reached(tpe, target)
            cells = [
                str(seed),
                search,
                str(len(ended)),
                f"{ended[-1].tokens / whole:.1f}",
                "none" if ended[-1].best is None else f"{ended[-1].best:.4f}",
                _runs(own, whole),
                "" if own is None or base is None else f"{base / own:.2f}",
                _runs(_reached(ended, median), whole),
            ]
            print("|", " | ".join(cells), "|")
    print("\n| search | seeds | best after 4 runs | 8 | 10.7 | 12.8 | 32 | 64 |\n|---|---|---|---|---|---|---|---|")
    for search in SEARCHES:
        seeds = found[search].values()
        spans = [[_best_within(ended, span * whole) for ended in seeds] for span in (4, 8, 64 / 6, 12.8, 32, 64)]
        cells = [search, str(len(seeds)), *(_median(values) for values in spans)]
        print("|", " | ".join(cells), "|")
    print("\nThe columns are medians of the seeds; a bracket: in so many of them nothing held the constraint yet.")


def _reached(ended: Sequence[Ended], target: float | None) -> int | None:
    """After how many tokens it had found something as good."""
    if target is None:
        return None
    return next((one.tokens for one in ended if one.best is not None and one.best <= target), None)


def _runs(tokens: int | None, whole: int) -> str:
    return "not" if tokens is None else f"{tokens / whole:.1f} runs"


def _best_within(ended: Sequence[Ended], tokens: float) -> float | None:
    return next((one.best for one in reversed(ended) if one.tokens <= tokens), None)


def _median(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    missing = f" ({len(values) - len(known)})" if len(known) < len(values) else ""
    return (f"{statistics.median(known):.4f}" if known else "none") + missing


if __name__ == "__main__":
    main()
