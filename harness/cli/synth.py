"""harness synth: a data set that teachers write, by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion
from harness.cli.announce import announce
from harness.cli.arguments import AsJson, DryRun, print_json
from harness.cli.writing_bar import WritingBar
from harness.config.errors import InputError
from harness.config.launcher import load_launcher, split_launcher
from harness.config.terminal import say
from harness.config.writable import check_output
from harness.runs.exit_codes import FAILED

if TYPE_CHECKING:
    from harness.config.launcher_schema import LauncherConfig
    from harness.synthesis.plan import Draft
    from harness.synthesis.recipe import Recipe

SHOWN_CHARACTERS = 2_000


def synth(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE|FILE", help="A recipe's name, or its file.", autocompletion=completion.synth_recipes)
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Keys of the recipe: seeds.prompts.path=FILE teachers.teacher.model=MODEL budget.tokens=5e6; launcher=slurm",
            autocompletion=completion.synth_overrides,
            show_default=False,
        ),
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Where the data set is made; default: under runs/, by the recipe's name.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that write; default: the recipe's workers; with launcher=slurm launcher.workers.")
    ] = None,
    preview: Annotated[int | None, typer.Option(min=1, metavar="N", help="Write and show the first N rows, and keep nothing.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a self-contained page: stages, figures, rows.")] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Have teachers write a data set, as a recipe says: seeds, templates, draws, scores, filters, selection.

    A command that was broken off, stopped or killed goes on when it is given again: nothing is lost, nothing is written twice, and the data
    set is the same, to the byte. With launcher=slurm workers are submitted as one job array, and the command returns; the last
    of them makes the data set.
    """
    announce("reading the recipe; then the libraries, and its teachers")
    from harness.generation.rows import NonFiniteLogitsError
    from harness.synthesis.endpoint import EndpointDownError
    from harness.synthesis.recipe import load_recipe
    from harness.synthesis.status import in_words, no_room, summary
    from harness.work.synth import SynthStoppedError, begin, make
    from harness.work.synth import preview as look

    if html is not None:
        check_output("--html", html)
    own, overrides = split_launcher(overrides or [])
    launcher = load_launcher([*own, *([f"launcher.workers={workers}"] if workers else [])]) if own else load_launcher([])
    loaded = load_recipe(recipe, overrides)
    if dry_run and launcher.name != "slurm":
        raise InputError("--dry-run: prints a batch script; valid: with launcher=slurm")
    if preview is not None:
        try:
            rows = look(loaded, preview)
        except EndpointDownError as error:
            say(f"error: {error}", err=True)
            raise typer.Exit(FAILED) from None
        if as_json:
            print_json({"rows": [{"dropped": draft.dropped, **draft.row.to_json()} for draft in rows]})
        else:
            _show(rows)
        return
    if launcher.name == "slurm" and _is_submitted(loaded, directory, launcher, html=html, dry_run=dry_run, as_json=as_json):
        return
    begun = begin(loaded, directory)
    path, bar = begun.directory.path, WritingBar()
    before: int | None = None

    def progress(there: int, asks: int, tokens: int) -> None:
        nonlocal before
        before = there if before is None else before
        bar.update(there, asks, tokens, before)

    try:
        made = make(begun, workers=workers or loaded.config.workers, progress=progress)
    except (KeyboardInterrupt, SynthStoppedError, EndpointDownError) as error:
        bar.stop()
        why = str(error) or "stopped"
        say(f"{why}: {bar.done:,} of {begun.plan.asks:,} texts are in {path}; the same command goes on", err=True)
        raise typer.Exit(FAILED) from None
    except NonFiniteLogitsError as error:
        bar.stop()
        raise InputError(f"a teacher's {error}: it writes nothing; valid: another model, or another precision") from None
    finally:
        bar.stop()
    if html is not None:
        from harness.work.synth_data import write_data_page

        write_data_page(begun.directory, begun.plan, made, html)
    found = summary(begun.directory)
    if as_json:
        print_json(found)
    else:
        for line in in_words(found):
            say(line, err=True)
        say(begun.directory.data)
        if html is not None:
            say(f"wrote {html}", err=True)
    refused = found["budget"]["refused"]
    if refused is not None:
        limit = found["budget"]["tokens"]["limit"]
        say(f"budget.tokens={limit:,}: {no_room(refused)}; with a higher one the same command goes on", err=True)
    if not made.data:
        say("no row is left; rejected.jsonl says why", err=True)
        raise typer.Exit(FAILED)


def _is_submitted(
    recipe: Recipe, directory: Path | None, launcher: LauncherConfig, *, html: Path | None, dry_run: bool, as_json: bool
) -> bool:
    """Submit workers, or print their script; False where no text is missing, so that the data set can be made here."""
    from harness.cli.submitted import report, submitting
    from harness.synthesis.directory import SynthDirectory
    from harness.work.synth_cluster import launch_synth, synth_script

    if dry_run:
        say(synth_script(recipe, directory, launcher), nl=False)
        return True
    with submitting():
        submitted = launch_synth(recipe, directory, launcher)
    if submitted is None:
        return False
    if as_json:
        from harness.synthesis.status import summary
        from harness.work.study_jobs import WatchedJobs

        begun = SynthDirectory(submitted.place.path)
        print_json({**summary(begun), **WatchedJobs(begun).to_json()})
    else:
        report(submitted)
    if html is not None:
        say("--html: the same command writes the page when the jobs have ended", err=True)
    return True


def _show(rows: list[Draft]) -> None:
    for draft in rows:
        row = draft.row
        title = f"{row.id}, of {row.seed_row.id}, draw {row.draw}"
        say(f"── {title}")
        say(row.prompt[:SHOWN_CHARACTERS])
        say(f"→ {row.last_text[:SHOWN_CHARACTERS]}")
        scores = "".join(f", {name} {score:g}" for name, score in row.scores.items())
        dropped = "" if draft.dropped is None else f", dropped: {draft.dropped[0]}={str(draft.dropped[1])[:200]}"
        say(f"  ends by {row.finish}, {row.tokens.total:,} tokens{scores}{dropped}")
