"""harness evaluate: the metrics of a model or a run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from harness.cli import completion
from harness.cli.announce import announce
from harness.cli.arguments import AsJson, DryRun, NewDirectory, Overrides, print_json
from harness.config.terminal import say
from harness.runs.exit_codes import DONE, FAILED, STOPPED

SAMPLES = 3
"""Texts of each set that are shown."""
SAMPLE_CHARACTERS = 400


def evaluate(
    what: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|RUN|TRIAL",
            help="A model's directory or hub name; or a run: its directory, its name under runs/, or STUDY/NUMBER.",
            autocompletion=completion.runs,
        ),
    ],
    overrides: Overrides = None,
    directory: NewDirectory = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Evaluate a model, or the last weights of a run, without training: a run like any other, of no step.

    A model needs evaluation sets, e.g. data.validation.docs.path=docs.jsonl, data.multiple_choice.quiz.path=quiz.jsonl,
    data.generation.sums.path=sums.jsonl or data.lm_eval.known.tasks=[arc_easy] (what is written is in the run's generations.jsonl, a few
    texts are shown); a run has them.
    """
    announce(f"reading the configuration; then the libraries, and {what}")
    from harness.cli.train import launch_or_start
    from harness.config.launcher import load_launcher, split_launcher
    from harness.evaluation.kinds import metric_of, shown_name
    from harness.report.samples import few, shortened, verdict
    from harness.runs.result import read_result
    from harness.work.evaluate import evaluation_of

    own, rest = split_launcher(overrides or [])
    evaluation = evaluation_of(what, rest)
    attempted = launch_or_start(evaluation.config, load_launcher(own), label=evaluation.label, directory=directory, dry_run=dry_run)
    if attempted is None:
        return
    result = read_result(attempted.run)
    metrics = {name: value for name, value in result.metrics.items() if metric_of(name)}
    samples = [text for texts in attempted.run.generations.by_step().values() for text in few(texts, SAMPLES)]
    if as_json:
        print_json(
            {
                "metrics": metrics,
                **({"samples": [asdict(sample) for sample in samples]} if samples else {}),
                "run": str(attempted.run.path),
                "state": result.state,
                "reason": result.reason,
                "tokens": asdict(result.tokens),
                "seconds": result.seconds,
            }
        )
    else:
        for name, value in metrics.items():
            say(f"{shown_name(name, value):40} {value:.4f}")
        for sample in samples:
            say(f"\n{sample.set}, {sample.id}: {verdict(sample)}\n{shortened(sample.prompt, SAMPLE_CHARACTERS)}")
            say(f"→ {shortened(sample.text, SAMPLE_CHARACTERS)}")
        stopped = attempted.code == STOPPED
        say(f"stopped; `harness resume {attempted.run.path}` evaluates it" if stopped else str(attempted.run.path), err=True)
    raise typer.Exit(DONE if attempted.code == DONE else FAILED)
