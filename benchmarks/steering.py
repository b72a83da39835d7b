"""A study of steering with its controls, one of directions that were trained, the time of a trial, and what hooks cost.

    python -m benchmarks.steering --model stories260k --general tinystories.jsonl.gz [--trials 32] [--tokens 20000] [--steps 24]
        [--behind 1 2] [--rounds 5] [--keep DIR]

The trait is the mood of stories: happy against sad, in templates of our own. The direction is found from some names, places and words, and
judged on others, half of which choose and half of which are reported on. Cost is KL(base || steered) over general text, bounded. Leads are
over doing nothing; intervals are of a bootstrap over pairs, or over documents of the text. Directions that are trained, one behind each
block of --behind, are looked at every 4 steps, and the best one within the bound is compared. Hooks are timed by the processor's clock on
one thread, in turn with the same model without them; target: at most 2 % of its tokens/s.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.workload import harness, require_paths, timed
from harness.runs.directory import StudyDirectory
from harness.runs.on_report import documents_behind, on_report, paired_lead, report_lines
from harness.runs.paired import Interval, ratio_interval
from harness.runs.record import RunRecord, StudyRecord, load_study

FOUND_FROM = (
    ("Tom", "Lily", "Ben", "Mia", "Sam", "Anna", "Tim", "Sue"),
    ("in the park", "at home", "in the garden", "at school", "on the beach", "in the forest"),
    (("happy and smiled.", "sad and cried."), ("merry.", "gloomy.")),
)
JUDGED_ON = (
    ("Max", "Lucy", "Jack", "Emma"),
    ("at the zoo", "by the river", "in the kitchen", "on the farm", "in the town", "at the shop", "on the bus", "in the snow"),
    (("glad.", "upset."), ("excited and laughed.", "scared and ran away."), ("proud.", "lonely."), ("joyful.", "angry.")),
)
"""Names, places, and pairs of moods: none of them in both."""
INSTRUCTION = "This is a story about a very happy day. "
OF_PAIRS = ("method", "reading", "block", "width")
"""What is searched of directions that are found, and not of a vector file."""
MARGIN, SHARE, KL = ("contrast/trait/report/margin", "contrast/trait/report/share", "val/general/report/kl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--general", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=20_000, help="of general text, half of which chooses")
    parser.add_argument("--bound", type=float, default=0.05, help="of the KL, in nats per token")
    parser.add_argument("--steps", type=int, default=24, help="of the directions that are trained; 0: none is")
    parser.add_argument("--behind", type=int, nargs="*", default=None, help="which blocks a direction is trained; all of them by itself")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", type=Path, default=None, help="a new directory for the pairs and the runs")
    arguments = parser.parse_args()
    require_paths(arguments.model, arguments.general, hint="see --model, --general")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        given = write_data(folder, arguments)
        study, wall = searched(folder, "found", [*given, f"adapter.pairs={folder / 'pairs.jsonl'}"], arguments)
        show_study(study)
        if arguments.steps:
            vectors = trained(folder, given, study, arguments)
            choices = f"space.adapter.vector={{choices: [{','.join(map(str, vectors))}], when: {{adapter.control: [null, random]}}}}"
            left_out = [f"~space.adapter.{key}" for key in OF_PAIRS]
            scaled, _ = searched(folder, "trained", [*given, f"adapter.vector={vectors[0]}", choices, *left_out], arguments)
            print("\ntrained:")
            show_study(scaled)
            show_lead(scaled, study)
        seconds = [run.result.seconds for run in study.runs]
        print(f"\na trial takes {statistics.median(seconds):.2f} s (median of {len(seconds)}); the study {wall:.0f} s")
        show_overhead([*given, f"adapter.pairs={folder / 'pairs.jsonl'}"], arguments.rounds)


def write_data(folder: Path, arguments: argparse.Namespace) -> list[str]:
    """The pairs' files; overrides of what all runs read."""
    for name, parts in (("pairs", FOUND_FROM), ("trait", JUDGED_ON)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(*parts)))
    turned = [{"prompt": row["prompt"], "chosen": row["positive"], "rejected": row["negative"]} for row in rows(*FOUND_FROM)]
    (folder / "preferences.jsonl").write_text("".join(json.dumps(row) + "\n" for row in turned))
    return [
        f"model.path={arguments.model.resolve()}",
        f"data.contrast.trait.path={folder / 'trait.jsonl'}",
        f"data.contrast.trait.instruction='{INSTRUCTION}'",
        f"data.validation.general.path={arguments.general.resolve()}",
        f"data.validation.general.max_tokens={arguments.tokens}",
        "data.context_length=128",
        "trainer=cpu",
        "trainer.threads=1",
        "tracking=none",
    ]


def rows(names: Sequence[str], places: Sequence[str], moods: Sequence[tuple[str, str]]) -> Iterator[dict[str, str]]:
    for name, place, (positive, negative) in itertools.product(names, places, moods):
        yield {"prompt": f"One day, {name} was {place}. {name} felt very", "positive": f" {positive}", "negative": f" {negative}"}


def searched(folder: Path, name: str, given: Sequence[str], arguments: argparse.Namespace) -> tuple[StudyRecord, float]:
    """The sweep `steer`, and the seconds that it took."""
    asked = [f"budget.trials={arguments.trials}", f"constraints.val/general/kl.max={arguments.bound}", "--name", name, "--workers", "1"]
    wall, _ = timed(harness("sweep", "steer", *given, *asked), {"HARNESS_RUNS": str(folder / "runs")})
    return load_study(StudyDirectory(folder / "runs" / name)), wall


def show_study(study: StudyRecord) -> None:
    """The controls, the best trials that steer, and the verdict."""
    controls = {"nothing": "doing nothing", "prompt": "the prompt", "random": "random direction"}
    nothing = next(run for run in study.runs if run.params["adapter.control"] == "nothing")
    print("| trial | margin (95 %) | lead over nothing (95 %) | share | KL (95 %) |\n|---|---|---|---|---|")
    for run in study.runs:
        if run.params["adapter.control"] is not None:
            what = controls[run.params["adapter.control"]]
            print(row_of(f"{what} {run.params.get('adapter.draw', '')}".strip() + where(run), run, nothing))
    for run in steering(study)[:3]:
        print(row_of(f"{direction(run)}{where(run)}", run, nothing))
    found = on_report(study)
    print()
    for line in report_lines(found, lambda value: f"{value:.3f}") if found else ["no trial holds the bound"]:
        print(line)


def steering(study: StudyRecord) -> list[RunRecord]:
    """The trials that steer within the bound, the best first."""
    return [run for run in study.ranked if run.params["adapter.control"] is None]


def direction(run: RunRecord) -> str:
    params = run.params
    return (
        Path(params["adapter.vector"]).name if "adapter.vector" in params else f"{params['adapter.method']} ({params['adapter.reading']})"
    )


def where(run: RunRecord) -> str:
    params = run.params
    if "adapter.coefficient" not in params:
        return ""
    place = f", block {params['adapter.block']} (width {params['adapter.width']})" if "adapter.block" in params else ""
    amount = params.get("adapter.sign", 1) * params["adapter.coefficient"]
    return f"{place}, {amount:.3f} of the norm, {params['adapter.positions']}"


def row_of(what: str, run: RunRecord, nothing: RunRecord) -> str:
    """A line of the table, of what is kept for the report."""
    lead = paired_lead(run.directory, nothing.directory, MARGIN, sign=-1) if run.directory != nothing.directory else None
    margin, kl = (ratio_interval([list(one.values()) for one in documents_behind(run.directory, metric)]) for metric in (MARGIN, KL))
    leads = "" if lead is None else shown(lead, 3)
    return f"| {what} | {shown(margin, 3)} | {leads} | {run.result.metrics[SHARE]:.2f} | {shown(kl, 4)} |"


def shown(found: Interval, digits: int) -> str:
    return f"{found.mean:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"


def trained(folder: Path, given: Sequence[str], study: StudyRecord, arguments: argparse.Namespace) -> list[Path]:
    """Vector files of directions that began at 0, one behind each block, and were trained on the pairs by the ordinary run."""
    training = [
        "experiment=steer",
        *given,
        f"adapter.pairs={folder / 'pairs.jsonl'}",
        "objective=preference",
        f"data.sources.moods.path={folder / 'preferences.jsonl'}",
        "data.sources.moods.format=preference_text",
        "data.append_eos=false",
        "adapter.coefficient=0",
        "schedule=constant",
        "schedule.warmup=0",
        "trainer.batch_tokens=1024",
        f"trainer.max_steps={arguments.steps}",
        "optim.lr=2e-3",
        "optim.weight_decay=0",
    ]
    vectors = []
    blocks = range(int(study.sweep["space"]["adapter.block"]["high"]) + 1) if arguments.behind is None else arguments.behind
    for block in blocks:
        run, vector = folder / "runs" / f"behind-{block}", folder / f"behind-{block}"
        timed(harness("train", *training, f"adapter.block={block}", "--dir", run))
        timed(harness("steer", vector, "--model", run))
        vectors.append(vector)
    return vectors


def show_lead(ours: StudyRecord, theirs: StudyRecord) -> None:
    """By how much the best direction that was trained leads the best that was found."""
    best = [steering(study)[:1] for study in (ours, theirs)]
    lead = paired_lead(best[0][0].directory, best[1][0].directory, MARGIN, sign=-1) if all(best) else None
    print("trained against found: " + ("none of one kind is within the bound" if lead is None else f"a lead of {shown(lead, 3)}"))


def show_overhead(given: Sequence[str], rounds: int) -> None:
    """Tokens a second of CPU of the same forward passes, steered and not."""
    import torch

    from harness.config.load import load
    from harness.evaluation.domain_loss import DomainLossSet
    from harness.models.adapters.build import build_adapted_model
    from harness.training.evaluation import evaluated
    from harness.training.inputs import load_inputs
    from harness.training.steering import directions_of

    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {"steered": [], "plain": []}
    config = load(["experiment=steer", *given, "adapter.coefficient=0.1", "data.kl=false", "data.report_share=0"]).config
    inputs = load_inputs(config)
    part = next(one for one in inputs.evaluation if isinstance(one, DomainLossSet))
    plain = load(["experiment=evaluate", *(one for one in given if not one.startswith("adapter."))]).config
    models: dict[str, Any] = {
        "steered": build_adapted_model(config, inputs.tokenizer, directions_of(config, inputs.tokenizer)).model,
        "plain": build_adapted_model(plain, inputs.tokenizer).model,
    }
    for place in range(rounds + 1):
        for name in list(models)[:: 1 if place % 2 else -1]:
            with evaluated(models[name], batch_tokens=config.trainer.evaluation_batch_tokens) as reading:
                began = time.process_time()
                part.measure(reading, lambda done: None)
                if place:  # the first warms up
                    seconds[name].append(time.process_time() - began)
    # Whatever else the machine does only adds.
    least = {name: min(found) for name, found in seconds.items()}
    speeds = {name: part.predicted_tokens / found for name, found in least.items()}
    print(
        f"hooks: {speeds['steered']:,.0f} tokens/s steered, {speeds['plain']:,.0f} without (CPU seconds, one thread, best of {rounds}): "
        f"{least['steered'] / least['plain'] - 1:+.1%} of the time"
    )


if __name__ == "__main__":
    main()
