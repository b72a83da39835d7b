"""harness init: a sweep, an experiment, a launcher or a recipe for synthetic data to change, copied from what there is."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from harness.cli import completion
from harness.config.terminal import say


def init(
    kind: Annotated[
        Literal["sweep", "experiment", "launcher", "synth"],
        typer.Argument(metavar="sweep|experiment|launcher|synth", help="What to copy; synth: a recipe of `harness synth`."),
    ],
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Which one; harness ls lists them.", autocompletion=completion.templates)
    ] = None,
    new_name: Annotated[str | None, typer.Argument(metavar="NEW_NAME", help="What the copy is called; default: NAME.")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of such files, for an editor, and copy nothing.")] = False,
) -> None:
    """Copy a sweep into ./sweeps, an experiment or a launcher into ./conf, or a recipe for synthetic data with its templates into ./synth,
    comments and all, to be changed.

    Beside it stands a JSON Schema, with which editors complete keys and show what they mean.
    """
    from harness.cli.arguments import print_json
    from harness.config.json_schema import file_schema
    from harness.work import init as work

    if schema:
        print_json(file_schema(kind))
        return
    path = work.init(kind, name, new_name)
    use = {
        "sweep": f"harness sweep {path.stem}",
        "experiment": f"harness train experiment={path.stem}",
        "launcher": f"launcher={path.stem}",
        "synth": f"harness synth {path.stem}",
    }
    say(f"{path}: yours to change; {use[kind]} uses it", err=True)
    say(path)
