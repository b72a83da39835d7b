"""What a study of merges gains over seeds: fine-tunes of one model, merged by searched weights, groups and methods; what healing gains, and
the mean of checkpoints in place of a decay, at equal tokens.

    python -m benchmarks.merge_study --model stories260k --texts docs=python-docs.jsonl.gz play=roleplay.jsonl.gz:response
        maths=gsm8k.jsonl.gz:answer [--seeds 3] [--steps 60] [--trials 24] [--tokens 6000]
        [--parts healing] [--studies "weights, groups, methods"]

For every seed each text gets a fine-tune. The studies are sweeps/merge.yaml with task arithmetic and a weight for each; with weights of
their own for attention and MLP, too; as it is, with all its methods; and with all of these. Trials are chosen by the mean loss over the
texts on half of the held-out documents; all figures are of the other half, in nats per token. healed: fine-tunes that are shorter by as
many tokens as their mean then learns from all texts together. Checkpoints: of a constant rate over the steps in which the other run decays
to 0, on the first text. One process trains, on one thread; a study has one worker. What a part found is written to stderr when it ends.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import harness
from benchmarks.workload import require, require_paths
from harness.data.sources import read_documents
from harness.runs.on_report import RIVALS, on_report
from harness.runs.record import StudyRecord, load_study

REPORTED = "val/mean/report/loss"
LR = "optim.lr=1e-3"
WEIGHTS = "space.model.merge.ingredients.*.weights.{}={{low: 0.0, high: 1.2}}"
NO_METHODS = [
    "~space.model.merge.method",
    "~space.model.merge.ingredients.*.density",
    "~space.model.merge.scale",
    "model.merge.method=task_arithmetic",
]
GROUPS = [word for part in ("attention", "mlp") for word in (f"model.merge.groups.{part}.part={part}", WEIGHTS.format(part))]
STUDIES = {
    "weights": NO_METHODS,
    "weights, groups": [*NO_METHODS, *GROUPS],
    "weights, methods": [],
    "weights, groups, methods": GROUPS,
}
PARTS = ("studies", "healing", "checkpoints")
CHECKPOINTS = (2, 4, 8)
DOCUMENTS, PIECES, PIECE = 500, 8, 500
"""Of each text, of each document, and characters of each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--texts", nargs="+", required=True, metavar="NAME=FILE[:FIELD]")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60, help="of 2,048 tokens, of each fine-tune")
    parser.add_argument("--trials", type=int, default=24, help="of each study")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--studies", nargs="+", choices=STUDIES, default=list(STUDIES), metavar="STUDY")
    parser.add_argument("--tokens", type=int, default=6000, help="held out of each text, half of which chooses")
    arguments = parser.parse_args()
    require(len(arguments.texts) > 1, "several --texts")
    texts = dict(_text(word) for word in arguments.texts)
    require_paths(arguments.model, *(path for path, _ in texts.values()), hint="see --model, --texts")
    began = time.perf_counter()
    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        pieces = {name: cut(*text, Path(temporary) / f"{name}.jsonl") for name, text in texts.items()}
        for seed in range(1, arguments.seeds + 1):
            os.environ["HARNESS_RUNS"] = f"{temporary}/runs-{seed}"
            one = OneSeed(arguments, pieces, seed, Path(temporary) / f"runs-{seed}")
            found.append({})
            for part in arguments.parts:
                figures = one.figures(part)
                print(f"seed {seed}, {time.perf_counter() - began:.0f} s: {figures}", file=sys.stderr, flush=True)
                found[-1] |= figures
    print(f"{arguments.seeds} seeds, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {time.perf_counter() - began:.0f} s\n")
    print(f"| what | {REPORTED}, mean (sd) | {' | '.join(f'seed {n + 1}' for n in range(len(found)))} |")
    print("|---|---|" + "---|" * len(found))
    for label in found[0]:
        values = [one[label] for one in found]
        spread = f" ({statistics.stdev(values):.4f})" if len(values) > 1 else ""
        print(f"| {label} | {statistics.mean(values):.4f}{spread} | {' | '.join(f'{value:.4f}' for value in values)} |")


def _text(word: str) -> tuple[str, tuple[Path, str]]:
    name, _, place = word.partition("=")
    path, _, field = place.partition(":")
    return name, (Path(path).resolve(), field or "text")


def cut(path: Path, field: str, out: Path) -> Path:
    """The beginning of a text in pieces, so that there are many documents to hold out; returns `out`."""
    with out.open("w") as stream:
        for document in islice(read_documents(str(path), field, key="--texts"), DOCUMENTS):
            for start in range(0, min(len(document), PIECE * PIECES), PIECE):
                stream.write(json.dumps({"text": document[start : start + PIECE]}) + "\n")
    return out


class OneSeed:
    """All that is measured with one seed."""

    def __init__(self, arguments: argparse.Namespace, texts: dict[str, Path], seed: int, folder: Path) -> None:
        self.model, self.steps, self.trials, self.seed, self.folder = arguments.model, arguments.steps, arguments.trials, seed, folder
        self.texts, self.tokens, self.asked = texts, arguments.tokens, arguments.studies

    def figures(self, part: str) -> dict[str, float]:
        return {"studies": self.studies, "healing": self.healing, "checkpoints": self.checkpoints}[part]()

    def studies(self) -> dict[str, float]:
        tunes = {name: self.tuned(name, self.steps) for name in self.texts}
        found: dict[str, float] = {}
        for label in self.asked:
            study = self.searched(label.replace(", ", "-"), tunes, STUDIES[label])
            found = found or self.baselines(study)
            winner = on_report(study)
            assert winner is not None, "half of the documents are reported on"
            found[f"searched: {label}"] = winner.value
        return found

    def healing(self) -> dict[str, float]:
        tunes = {name: self.tuned(name, self.steps) for name in self.texts}
        steps = max(2, self.steps // 2)
        shorter = {name: self.tuned(name, self.steps - steps // len(self.texts)) for name in self.texts}
        heal = [f"trainer.max_steps={steps}", "trainer.batch_tokens=2048", LR, f"seed={self.seed}"]
        return {
            "their mean, not healed": self.merged("mean", tunes, ["trainer.max_steps=0"]),
            "the mean of shorter ones, healed at equal tokens": self.merged("healed", shorter, heal),
        }

    def data(self, *names: str) -> list[str]:
        found = []
        for name in names:
            found += [f"data.sources.{name}.path={self.texts[name]}"]
            found += [f"data.validation.{name}={{source: {name}, share: 0.2, max_tokens: {self.tokens}}}"]
        return [*found, "data.context_length=128", "trainer=cpu", "trainer.threads=1", "tracking=none"]

    def trained(self, label: str, *overrides: str) -> dict[str, float]:
        config = harness.load("model=pretrained", f"model.path={self.model.resolve()}", LR, f"seed={self.seed}", *overrides)
        return harness.train(config, directory=self.folder / label, progress=False).metrics

    def tuned(self, name: str, steps: int) -> Path:
        label = f"{name}-{steps}"
        if not (self.folder / label).exists():
            self.trained(
                label, *self.data(name), f"trainer.max_steps={steps}", "trainer.batch_tokens=2048", "trainer.final_checkpoint=weights"
            )
        return self.folder / label

    def searched(self, label: str, tunes: dict[str, Path], overrides: Sequence[str]) -> StudyRecord:
        paths = [f"model.merge.ingredients.{name}.path={path}" for name, path in tunes.items()]
        own = [f"budget.trials={self.trials}", f"search.seed={self.seed}", "launcher.workers=1"]
        given = [f"model.merge.base={self.model.resolve()}", *paths, *self.data(*self.texts), *own, *overrides]
        return load_study(harness.sweep("merge", *given, name=label, progress=False)._directory)

    def baselines(self, study: StudyRecord) -> dict[str, float]:
        """What the winner has to beat, each chosen as the winner is."""
        found = on_report(study)
        assert found is not None, "half of the documents are reported on"
        own = {found.is_baseline[0]: found.value} if found.is_baseline else {}
        values = {**{rival.kind: rival.value for rival in found.rivals}, **own}
        return {RIVALS[kind]: values[kind] for kind in ("ingredient", "scale") if kind in values}

    def merged(self, label: str, tunes: dict[str, Path], train: Sequence[str]) -> float:
        words = [f"model.merge.ingredients.{name}.path={path}" for name, path in tunes.items()]
        given = ["experiment=merge", "model.merge.method=linear", "model.merge.base=" + str(self.model.resolve()), *words]
        config = harness.load(*given, *self.data(*self.texts), *train)
        return harness.train(config, directory=self.folder / label, progress=False).metrics[REPORTED]

    def checkpoints(self) -> dict[str, float]:
        """On the first text, its whole held-out part: nothing is chosen."""
        name = next(iter(self.texts))
        last, metric = self.steps, f"val/{name}/loss"
        length = [*self.data(name), f"trainer.max_steps={3 * last}", "trainer.batch_tokens=2048", "schedule.warmup=5"]
        every = max(1, last // max(CHECKPOINTS))
        kept = [f"trainer.checkpoint_every_steps={every}", f"trainer.keep_checkpoints={max(CHECKPOINTS)}"]
        constant = self.trained("constant", *length, "schedule=constant", *kept)[metric]
        decayed = self.trained("decayed", *length, "schedule=wsd", "schedule.decay_fraction=0.3333", "schedule.decay_shape=linear")[metric]
        found = {f"{name}: constant rate": constant, f"{name}: a decay over the last third": decayed}
        for count in CHECKPOINTS:
            soup = [f"model.merge.ingredients.soup.path=run:{self.folder / 'constant'}", f"model.merge.ingredients.soup.last={count}"]
            config = harness.load("model=merge", "model.merge.method=linear", *soup, *self.data(name), "trainer.max_steps=0")
            found[f"{name}: the mean of the last {count} checkpoints, without a decay"] = harness.train(
                config, directory=self.folder / f"soup-{count}", progress=False
            ).metrics[metric]
        return found


if __name__ == "__main__":
    main()
