"""What learning from pairs comes to by loss, rate, beta and weight of the chosen answers' own loss, against fine-tuning on these alone.

    python -m benchmarks.preference_grid --model stories260k --texts tinystories.jsonl.gz [--pairs 640] [--steps 32] [--seeds 3] [--arms …]

A chosen answer is how a text goes on, the rejected one what the model itself writes there (temperature 1). All are trials of one sweep,
which is given the points to try: steps of 16 pairs, of 16 chosen answers where fine-tuned. Measured on pairs of prompts that were held out
(a fifth) and on other texts, means over seeds, ± half of what the seeds differ by.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from benchmarks.workload import harness, require_paths, timed
from harness.runs.directory import StudyDirectory
from harness.runs.record import RunRecord, load_study

PROMPT_TOKENS, ANSWER_TOKENS = 48, 48
PAIRS_A_STEP = 16
HELD_OUT = 0.2
ARMS: dict[str, dict[str, object]] = {
    "sft on the chosen, 3e-4": {"objective": "sft", "optim.lr": 3e-4},
    "dpo, 1e-5": {"optim.lr": 1e-5},
    "dpo, 1e-4, beta 0.5": {"optim.lr": 1e-4, "objective.beta": 0.5},
    "dpo, 1e-4": {"optim.lr": 1e-4},
    "dpo, 1e-4, beta 0.03": {"optim.lr": 1e-4, "objective.beta": 0.03},
    "dpo, 3e-4": {"optim.lr": 3e-4},
    "dpo, 3e-4, three times the steps": {"optim.lr": 3e-4, "trainer.max_steps": 3},
    "dpo, 1e-3": {"optim.lr": 1e-3},
    "dpo, 3e-3": {"optim.lr": 3e-3},
    "dpo and nll 0.2, 3e-4": {"optim.lr": 3e-4, "objective.nll_weight": 0.2},
    "dpo and nll 1, 3e-4": {"optim.lr": 3e-4, "objective.nll_weight": 1.0},
    "apo_zero, 3e-4": {"optim.lr": 3e-4, "objective.kind": "apo_zero"},
    "dpo_norm, 3e-4, beta 5": {"optim.lr": 3e-4, "objective.kind": "dpo_norm", "objective.beta": 5.0},
    "simpo, 3e-4, beta 2": {"optim.lr": 3e-4, "objective.kind": "simpo", "objective.beta": 2.0},
}
"""What differs from dpo with beta 0.1; trainer.max_steps in times of --steps."""
USUAL: dict[str, object] = {
    "objective": "preference",
    "objective.kind": "dpo",
    "objective.beta": 0.1,
    "objective.nll_weight": 0.0,
    "trainer.batch_pairs": PAIRS_A_STEP,
    "trainer.max_steps": 1,
}
FINE_TUNED: dict[str, object] = {"trainer.batch_tokens": PAIRS_A_STEP * (PROMPT_TOKENS + ANSWER_TOKENS), "trainer.max_steps": 1}
SHOWN = {
    "loss at beta 0.1": "preference/prefs/loss",
    "accuracy": "preference/prefs/accuracy",
    "margin per token": "preference/prefs/margin_per_token",
    "chosen shift": "preference/prefs/chosen_shift",
    "forgetting": "val/general/forgetting",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True, help="jsonl with text, of what the model was trained on")
    parser.add_argument("--pairs", type=int, default=640)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM", help="lines of the table, by name")
    arguments = parser.parse_args()
    require_paths(arguments.model, arguments.texts, hint="see --model, --texts")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        environment = {"HARNESS_RUNS": str(folder / "runs")}
        write_pairs(folder, arguments, environment)
        (folder / "sweep.yaml").write_text(json.dumps(sweep_of(arguments)))
        given = overrides(folder, arguments)
        seconds, _ = timed(harness("sweep", folder / "sweep.yaml", *given, "--name", "pairs", "--workers", "1"), environment)
        study = load_study(StudyDirectory(folder / "runs" / "pairs"))
        show(study.runs, points(arguments))
        print(f"\n{len(study.runs)} trials in {seconds:.0f} s")


def write_pairs(folder: Path, arguments: argparse.Namespace, environment: dict[str, str]) -> None:
    """pairs.jsonl and general.jsonl; a prompt is the beginning of a text."""
    tokenizer: Any = AutoTokenizer.from_pretrained(arguments.model)
    texts = read_texts(arguments.texts)
    began: list[dict[str, str]] = []
    for text in texts:
        tokens = tokenizer.encode(text, add_special_tokens=False)
        if len(tokens) >= PROMPT_TOKENS + ANSWER_TOKENS:
            prompt = tokenizer.decode(tokens[:PROMPT_TOKENS])
            whole = tokenizer.decode(tokens[: PROMPT_TOKENS + ANSWER_TOKENS])
            began.append({"id": str(len(began)), "prompt": prompt, "chosen": whole.removeprefix(prompt)})
        if len(began) == arguments.pairs:
            break
    write_rows(folder / "prompts.jsonl", [{"id": row["id"], "prompt": row["prompt"]} for row in began])
    general = [{"text": text} for _, text in zip(range(arguments.pairs // 2), texts, strict=False)]
    write_rows(folder / "general.jsonl", general)
    words: list[str | Path] = ["sampling=temperature", f"--max-new-tokens={ANSWER_TOKENS}", "--out", folder / "own.jsonl"]
    timed(harness("generate", arguments.model, "--prompts", folder / "prompts.jsonl", *words), environment)
    own = {row["id"]: row["text"] for row in map(json.loads, (folder / "own.jsonl").read_text().splitlines())}
    write_rows(folder / "pairs.jsonl", [{**row, "rejected": own[row["id"]]} for row in began])


def read_texts(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for line in lines:
            yield json.loads(line)["text"]


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def overrides(folder: Path, arguments: argparse.Namespace) -> list[str]:
    return [
        f"model.path={arguments.model.resolve()}",
        f"data.sources.prefs.path={folder / 'pairs.jsonl'}",
        "data.sources.prefs.format=preference_text",
        f"data.preference.prefs.share={HELD_OUT}",
        f"data.validation.general.path={folder / 'general.jsonl'}",
        "data.validation.general.format=text",
        "data.validation.general.max_tokens=20e3",
        "data.context_length=256",
        "trainer.max_tokens=10e6",
        "trainer=cpu",
        "trainer.threads=1",
        "tracking=none",
    ]


def points(arguments: argparse.Namespace) -> dict[str, list[dict[str, object]]]:
    """The trials of each line of the table, one a seed."""
    found = {}
    for label in arguments.arms:
        arm = {**(FINE_TUNED if "sft" in ARMS[label].values() else USUAL), **ARMS[label]}
        arm["trainer.max_steps"] *= arguments.steps
        found[label] = [{**arm, "seed": seed} for seed in range(arguments.seeds)]
    return found


def sweep_of(arguments: argparse.Namespace) -> dict[str, object]:
    every = [point for of_arm in points(arguments).values() for point in of_arm]
    keys = dict.fromkeys(key for point in every for key in point)

    def searched(key: str) -> dict[str, object]:
        choices = list(dict.fromkeys(point[key] for point in every if key in point))
        return {
            "choices": choices,
            **({} if all(key in point for point in every) else {"when": {"objective": "sft" if key in FINE_TUNED else "preference"}}),
        }

    return {
        "base": ["experiment=preference"],
        "objective": {"metric": SHOWN["loss at beta 0.1"]},
        "space": {key: searched(key) for key in keys},
        "search": {"name": "random", "warm_start": every},
        "budget": {"trials": len(every)},
    }


def show(runs: Sequence[RunRecord], arms: dict[str, list[dict[str, object]]]) -> None:
    print(f"| kind, rate | {' | '.join(SHOWN)} |\n|{'---|' * (1 + len(SHOWN))}")
    for label, trials in arms.items():
        of_arm = [next(run for run in runs if run.params == trial).result.metrics for trial in trials]
        print(f"| {label} | {' | '.join(over_seeds([metrics[name] for metrics in of_arm]) for name in SHOWN.values())} |")


def over_seeds(values: list[float]) -> str:
    return f"{statistics.mean(values):.4f} ± {(max(values) - min(values)) / 2:.4f}"


if __name__ == "__main__":
    main()
