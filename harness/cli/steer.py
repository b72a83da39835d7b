"""harness steer: a direction along which a model is steered."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from harness.cli import completion
from harness.cli.announce import announce
from harness.cli.arguments import AsJson, Overrides, print_json
from harness.cli.side_by_side import show_side_by_side
from harness.config.terminal import say


def steer(
    out: Annotated[Path, typer.Argument(help="A new directory.")],
    overrides: Overrides = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="model.path, in short: a model's directory or hub name; or a run with adapter=steering.", autocompletion=completion.runs
        ),
    ] = None,
    pairs: Annotated[Path | None, typer.Option(metavar="FILE", help="adapter.pairs, in short: rows {prompt, positive, negative}.")] = None,
    block: Annotated[int | None, typer.Option(min=0, help="adapter.block, in short.")] = None,
    coefficient: Annotated[float | None, typer.Option(help="adapter.coefficient, in short.")] = None,
    tried: Annotated[
        list[str] | None, typer.Option("--try", metavar="PROMPT", help="Show what follows it, as the model is and steered; several times.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Of --try, where a text ends at the latest.")] = 40,
    form: Annotated[
        Literal["vector", "gguf", "baked"],
        typer.Option("--format", help="vector: our file; gguf: a control vector of llama.cpp; baked: a checkpoint with it in its weights."),
    ] = "vector",
    as_json: AsJson = False,
) -> None:
    """Find a direction from contrast pairs, say how well they agree, try it, and write it.

    A baked checkpoint is compared with the steered model before it is written, and refused where it differs. To search block, coefficient
    and method under a bound on what it costs: harness sweep steer.
    """
    announce("reading the model and the pairs")
    from harness.work.steer import SteeringQuestion, model_among, words_of
    from harness.work.steer import steer as write

    model, given = model_among(model, overrides or [])
    question = SteeringQuestion(model, [*given, *words_of(pairs, block, coefficient)], form, tuple(tried or ()), max_new_tokens)
    summary = write(question, out, found=(lambda summary: None) if as_json else _show)
    if as_json:
        print_json(summary)
        return
    _show_tried(summary["tried"])
    if "difference" in summary:
        say(f"its logits are those of the steered model, to {summary['difference']:.1e} of their range", err=True)
    if summary.get("not_proved"):
        say(summary["not_proved"], err=True)
    say(out)


def _show(summary: dict[str, Any]) -> None:
    """What was found, on stderr."""
    from harness.training.steering_diagnosis import EXPLAINED

    how = f"{summary['operation']} at {summary['positions']} tokens"
    trained = ", then trained" if summary["trained"] else ""
    say(f"{summary['method']} at {summary['reading']} of {summary['pairs']} pairs{trained}, {how}", err=True)
    say("block  norm   agreement  opposed  coefficient", err=True)
    for row in summary["blocks"]:
        used = summary["coefficients"].get(str(row["block"]))
        shown = "" if used is None else f"{used:>11.3g}"
        say(f"{row['block']:>5}  {row['norm']:<6.3g} {row['agreement']:>9.2f}  {row['opposed']:>7.0%}  {shown}".rstrip(), err=True)
    say(EXPLAINED, err=True)


def _show_tried(rows: list[dict[str, str]]) -> None:
    for row in rows:
        say(f"── {row['prompt']!r}")
        show_side_by_side(("as it is", row["base"]), ("steered", row["steered"]))
