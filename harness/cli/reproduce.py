"""harness reproduce: a recipe, or a run, once more, and how it compares."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion
from harness.cli.announce import announce
from harness.cli.arguments import AsJson, NewDirectory, Overrides, print_json
from harness.config.errors import InputError
from harness.config.terminal import say
from harness.runs.exit_codes import DONE, FAILED

if TYPE_CHECKING:
    from harness.config.schema import Config
    from harness.runs.bundle import BundleDirectory
    from harness.runs.reproduction import Difference, Original, Reproduction
    from harness.work.remake import Remade

HEADINGS = {"exact": "exact", "within_noise": "within seed noise", "unknown": "unknown", "differs": "differs"}


def reproduce(
    what: Annotated[
        str,
        typer.Argument(
            metavar="NAME|RUN|DIR", help="A recipe by its name, a run, or the directory of a bundle.", autocompletion=completion.recipes
        ),
    ],
    overrides: Overrides = None,
    check: Annotated[bool, typer.Option("--check", help="Only say what differs here; train nothing.")] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Train even on other data, another tokenizer or another model.")] = False,
    seeds: Annotated[int, typer.Option(min=0, help="Run it over so many further seeds first, to know their noise here.")] = 0,
    directory: NewDirectory = None,
    as_json: AsJson = False,
) -> None:
    """Run a recipe or a run again and compare: exact or within seed noise; else (exit code 1) different, or
    unknown, where it is not known how much of a difference is noise.

    Data, tokenizer, model, versions and hardware are compared first. Files that lie elsewhere here are given as overrides:
    data.sources.docs.path=FILE. What a merge was made of, and is not here, is trained again first, where the recipe says how.
    """
    if seeds == 1:
        raise InputError("--seeds=1: expected at least 2: one run says nothing about seed noise")
    announce(f"comparing {what} with what is here: data, tokenizer, model, versions")
    from harness.runs.bundle import find_bundle
    from harness.runs.reproduction import compare, differences
    from harness.work.remake import parted, unexplained
    from harness.work.reproduce import changed, inputs_here, noise_here, original_of, other_input_text, train_again

    bundle = find_bundle(what)
    own, of_models = parted(bundle, overrides or []) if bundle else (overrides or [], [])
    original, config, there = original_of(what, own)
    parts = _remade(bundle, config, [*own, *of_models], train=not check) if bundle else []
    if again := [text for part in parts for text in part.override]:
        original, config, there = original_of(what, [*own, *again])
    found = [*changed(there, config), *differences(original.result, inputs_here(config))]
    if not as_json:
        _show_differences(original, found)
    other = unexplained([difference.what for difference in found if difference.matters == "input"], parts)
    if check:
        if as_json:
            print_json({"name": original.name, "verdict": None, "differences": [dataclasses.asdict(one) for one in found]})
        raise typer.Exit(FAILED if found else DONE)
    if other and not anyway:
        raise InputError(other_input_text(what, other, config))
    if seeds:
        original = dataclasses.replace(original, **noise_here(config, original, seeds))
    run, result = train_again(config, original, directory)
    compared = compare(original, seed=config.seed, metrics=result.metrics, rows=run.metrics.rows(), differences=found)
    if as_json:
        document = {"name": original.name, **compared.to_json(), "differences": [dataclasses.asdict(one) for one in found]}
        print_json({**document, "seed": config.seed, "run": str(run.path), "state": result.state})
    else:
        _show(original, compared, run.path)
    raise typer.Exit(DONE if compared.verdict in ("exact", "within_noise") else FAILED)


def _remade(bundle: BundleDirectory, config: Config, given: list[str], *, train: bool) -> list[Remade]:
    """What a recipe's merge is made of and is not here, each said on stderr. given: overrides."""
    from harness.config.nested import flat
    from harness.config.validate import to_plain
    from harness.work.kept_run import UnfinishedError
    from harness.work.remake import remade

    try:
        parts = remade(bundle, dict(flat(to_plain(config))), given=given, train=train)
    except UnfinishedError as error:
        say(str(error), err=True)
        raise typer.Exit(FAILED) from None
    for part in parts:
        say(part.line, err=True)
    return parts


def _show_differences(original: Original, found: list[Difference]) -> None:
    from rich.table import Table

    from harness.config.literal_console import LiteralConsole
    from harness.report.fitted_table import show

    console = LiteralConsole()
    same = len(original.result.fingerprints) - sum(one.matters == "input" for one in found)
    if not found:
        say(f"{original.name}: data, tokenizer, model, versions and hardware are the same here ({same} fingerprints)")
        return
    table = Table("what differs", "there", "here", "kind", box=None, pad_edge=False)
    for one in found:
        table.add_row(one.what, one.there, one.here, one.matters)
    say(f"{original.name}: {same} of {len(original.result.fingerprints)} fingerprints are the same here")
    show(table, console)


def _show(original: Original, compared: Reproduction, run: Path) -> None:
    say(f"{original.name}: {HEADINGS[compared.verdict]}: {compared.why}")
    if compared.verdict != "exact" and compared.rows.first_difference:
        say(f"  first difference: {compared.rows.first_difference}")
    say(f"  {run}")
