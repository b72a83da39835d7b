"""harness export: a run as a plain transformers checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.cli.announce import announce
from harness.cli.arguments import RunName
from harness.config.terminal import say


def export(
    run: RunName,
    out: Annotated[Path, typer.Argument(help="A new directory.")],
    adapter: Annotated[
        bool,
        typer.Option(
            "--adapter",
            help="Only the adapter: of lora and soft_prompt for peft, of steering a vector file; else it is merged into the model.",
        ),
    ] = False,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option("--dtype", help="In which precision weights are written; that in which the base is stored, unless given."),
    ] = None,
) -> None:
    """Write a run as a plain transformers checkpoint with tokenizer and model card."""
    from harness.runs.directory import find_run

    found = find_run(run)

    announce(f"reading the weights of {found.path}")
    from harness.training.export import export as write

    write(found, out, adapter=adapter, dtype=dtype)
    if not adapter:
        say(f"a transformers checkpoint: AutoModelForCausalLM.from_pretrained({str(out)!r}); harness evaluate {out} …", err=True)
    say(out)
