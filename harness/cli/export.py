"""harness export: a run as a plain transformers checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.announce import announce
from harness.cli.arguments import RunName


def export(
    run: RunName,
    out: Annotated[Path, typer.Argument(help="A new directory.")],
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Only what adapter=lora or soft_prompt trained, for peft; else it is merged into the model.")
    ] = False,
) -> None:
    """Write a run as a plain transformers checkpoint with tokenizer and model card."""
    from harness.runs.directory import find_run

    found = find_run(run)

    announce(f"reading the weights of {found.path}")
    from harness.training.export import export as write

    write(found, out, adapter=adapter)
    if not adapter:
        typer.echo(f"a transformers checkpoint: AutoModelForCausalLM.from_pretrained({str(out)!r}); harness evaluate {out} …", err=True)
    typer.echo(out)
