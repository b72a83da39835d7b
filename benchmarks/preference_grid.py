"""What learning from pairs comes to by rate and by weight of the chosen answers' own loss, against fine-tuning on these alone, over seeds.

    python -m benchmarks.preference_grid --model stories260k --texts tinystories.jsonl.gz [--pairs 512] [--steps 32] [--seeds 3]

A chosen answer is how a text goes on, the rejected one what the model itself writes there (temperature 1). All are trials of one grid
sweep: steps of 16 pairs, of 16 chosen answers where fine-tuned. Measured on pairs of prompts that were held out and on other texts, means
over seeds, ± half of what the seeds differ by.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from transformers import AutoTokenizer

from benchmarks.workload import harness, require_paths, timed
from harness.runs.directory import StudyDirectory
from harness.runs.record import RunRecord, load_study

PROMPT_TOKENS, ANSWER_TOKENS = 48, 48
PAIRS_A_STEP = 16
RATES = (1e-4, 3e-4, 1e-3)
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
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
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
        show(study.runs)
        print(f"\n{len(study.runs)} trials in {seconds:.0f} s")


def write_pairs(folder: Path, arguments: argparse.Namespace, environment: dict[str, str]) -> None:
    """pairs.jsonl and general.jsonl; a prompt is the beginning of a text."""
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    texts = read_texts(arguments.texts)
    began = []
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
    words = ["sampling=temperature", f"--max-new-tokens={ANSWER_TOKENS}", "--out", folder / "own.jsonl"]
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
        f"data.validation.general.path={folder / 'general.jsonl'}",
        "data.validation.general.format=text",
        "data.validation.general.max_tokens=20e3",
        "data.context_length=256",
        f"trainer.max_steps={arguments.steps}",
        "trainer.max_tokens=null",
        "trainer=cpu",
        "trainer.threads=1",
        "tracking=none",
    ]


def sweep_of(arguments: argparse.Namespace) -> dict[str, object]:
    by_pairs, by_answers = {"objective": "preference"}, {"objective": "sft"}
    tokens = PAIRS_A_STEP * (PROMPT_TOKENS + ANSWER_TOKENS)
    return {
        "base": ["experiment=preference"],
        "objective": {"metric": SHOWN["loss at beta 0.1"]},
        "space": {
            "objective": {"choices": ["preference", "sft"]},
            "objective.nll_weight": {"choices": [0.0, 0.2], "when": by_pairs},
            "trainer.batch_pairs": {"choices": [PAIRS_A_STEP], "when": by_pairs},
            "trainer.batch_tokens": {"choices": [tokens], "when": by_answers},
            "optim.lr": {"choices": list(arguments.rates)},
            "seed": {"choices": list(range(arguments.seeds))},
        },
        "search": "grid",
    }


def show(runs: tuple[RunRecord, ...]) -> None:
    print(f"| kind, rate | {' | '.join(SHOWN)} |\n|{'---|' * (1 + len(SHOWN))}")
    by_kind: dict[str, list[RunRecord]] = {}
    for run in runs:
        params = run.params
        kind = "sft on the chosen" if params["objective"] == "sft" else f"dpo, nll {params['objective.nll_weight']}"
        by_kind.setdefault(f"{kind}, {params['optim.lr']:g}", []).append(run)
    for kind, of_kind in by_kind.items():
        print(f"| {kind} | {' | '.join(over_seeds([run.result.metrics[name] for run in of_kind]) for name in SHOWN.values())} |")


def over_seeds(values: list[float]) -> str:
    return f"{statistics.mean(values):.4f} ± {(max(values) - min(values)) / 2:.4f}"


if __name__ == "__main__":
    main()
