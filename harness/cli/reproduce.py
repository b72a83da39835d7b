"""harness reproduce: a recipe, or a run, once more, and how it compares."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import completion
from harness.cli.arguments import AsJson, Overrides, print_json
from harness.config.errors import InputError
from harness.runs.exit_codes import DONE, FAILED

if TYPE_CHECKING:
    from harness.config.schema import Config
    from harness.runs.reproduction import Difference, Original, Reproduction
    from harness.runs.result import Result

HEADINGS = {"exact": "exact", "within_noise": "within the noise of seeds", "differs": "differs"}


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
    directory: Annotated[Path | None, typer.Option("--dir", help="Directory of the run; default: a new one under runs/.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a recipe or a run again and compare: exact, within the noise of seeds, or different (exit code 1).

    Data, tokenizer, model, versions and hardware are compared first. Files that lie elsewhere here are given as overrides:
    data.sources.docs.path=FILE.
    """
    if seeds == 1:
        raise InputError("--seeds=1: expected at least 2: one run says nothing about the noise of seeds")
    original, config, there = _original(what, overrides or [])
    found = list(_changed(there, config))
    inputs = _inputs_here(config)
    from harness.runs.reproduction import differences

    found += differences(original.result, inputs)
    if not as_json:
        _show_differences(original, found)
    other = [difference.what for difference in found if difference.matters == "input"]
    if check:
        if as_json:
            print_json({"name": original.name, "verdict": None, "differences": [dataclasses.asdict(one) for one in found]})
        raise typer.Exit(FAILED if found else DONE)
    if other and not anyway:
        raise InputError(_other_input(what, other, config))
    if seeds:
        original = dataclasses.replace(original, **_noise_here(config, original, seeds))
    run, result = _train(config, original, directory)
    from harness.runs.directory import RunDirectory
    from harness.runs.reproduction import compare

    compared = compare(original, seed=config.seed, metrics=result.metrics, rows=RunDirectory(run).metrics.rows())
    if as_json:
        document = {"name": original.name, **compared.to_json(), "differences": [dataclasses.asdict(one) for one in found]}
        print_json({**document, "seed": config.seed, "run": str(run), "state": result.state})
    else:
        _show(original, compared, run)
    raise typer.Exit(FAILED if compared.verdict == "differs" else DONE)


def _original(what: str, overrides: list[str]) -> tuple[Original, Config, dict[str, Any]]:
    """What is run again, its configuration here, and the configuration as it was."""
    from harness.config.load import load_file
    from harness.runs.bundle import PLAIN_NAME, find_bundle, unknown_recipe
    from harness.runs.directory import find_run
    from harness.runs.files import read_yaml
    from harness.runs.record import load_run

    bundle = find_bundle(what)
    if bundle is not None:
        return _of_bundle(bundle, overrides)
    try:
        run = find_run(what)
    except InputError:
        if PLAIN_NAME.fullmatch(what.removeprefix("best/")):
            raise unknown_recipe(what) from None
        raise
    record = load_run(run)
    if record.state != "complete":
        raise InputError(f"{run.name}: {record.state}; only a complete run can be compared with")
    there = read_yaml(run.config)
    config = load_file(run.config, _with_threads(overrides, record.result, there))
    return _of_run(record, config), config, there


def _of_bundle(bundle: Any, overrides: list[str]) -> tuple[Original, Config, dict[str, Any]]:
    from harness.config.recipe import load_recipe, recipe_values
    from harness.runs.reproduction import Original
    from harness.runs.result import Result

    told = bundle.read()
    values = recipe_values(bundle.config, template=bundle.chat_template)
    result = Result(
        metrics=told.metrics, versions=told.versions, git_commit=told.git_commit, fingerprints=told.fingerprints, hardware=told.hardware
    )
    config = load_recipe(values, _with_threads(overrides, result, values), origin=str(bundle.config), to_give=told.to_give)
    noise = told.noise or {}
    original = Original(
        name=told.name,
        seed=told.seed,
        result=result,
        rows=bundle.rows,
        metric=told.metric,
        mean=told.objective if told.interval else None,
        seeds=len(told.seeds),
        sd=noise.get("sd"),
        degrees=noise.get("degrees", 1.0),
    )
    return original, config, values


def _of_run(record: Any, config: Config) -> Original:
    from harness.runs.record import load_study
    from harness.runs.reproduction import Original

    run = record.directory
    metric = next((name for name in record.result.metrics if name.startswith("val/") and name.endswith("/loss")), None)
    mean, seeds, sd, degrees = None, 0, None, 1.0
    if run.study is not None:
        study = load_study(run.study)
        metric, confirmation = study.objective.metric, study.confirmation
        if confirmation and confirmation.is_complete and confirmation.noise:
            sd, degrees = confirmation.noise.sd, float(confirmation.degrees)
            candidate = confirmation.candidate(record.number)
            if candidate and candidate.interval:
                mean, seeds = candidate.interval.mean, len(candidate.values)
    return Original(
        name=record.name,
        seed=record.config["seed"],
        result=record.result,
        rows=record.rows,
        metric=metric,
        mean=mean,
        seeds=seeds,
        sd=sd,
        degrees=degrees,
    )


def _with_threads(overrides: list[str], result: Result, values: dict[str, Any]) -> list[str]:
    """On a CPU the last bits depend on the number of threads: as many as there, unless the user says otherwise."""
    threads = result.hardware.get("threads")
    given = any(override.lstrip("+").startswith("trainer.threads=") for override in overrides)
    if given or result.hardware.get("gpus") or not isinstance(threads, int) or values.get("trainer", {}).get("threads"):
        return overrides
    return [f"trainer.threads={threads}", *overrides]


def _changed(there: dict[str, Any], config: Config) -> list[Difference]:
    """What the overrides change of the recipe itself; where files lie is compared by their fingerprints."""
    from harness.config.state_key import BY_FINGERPRINT, NO_INFLUENCE, flat, is_of
    from harness.config.validate import to_plain
    from harness.runs.reproduction import Difference

    before, now = dict(flat(there)), dict(flat(to_plain(config)))
    paths = (*BY_FINGERPRINT, *NO_INFLUENCE, "trainer.threads", "data.chat_template")
    return [
        Difference(key, str(before[key]), str(now.get(key)), "configuration")
        for key in before
        if not is_of(key, paths) and now.get(key) != before[key]
    ]


def _inputs_here(config: Config) -> Result:
    """Fingerprints, versions and hardware of this machine, in the form in which a run notes them."""
    from harness.runs.result import Result
    from harness.training import provenance
    from harness.training.inputs import load_inputs
    from harness.training.progress import TokenizationProgress

    hardware = provenance.hardware()
    if config.trainer.threads is not None:
        hardware["threads"] = config.trainer.threads
    fingerprints = load_inputs(config, progress=TokenizationProgress().update).fingerprints
    return Result(versions=provenance.versions(), fingerprints=fingerprints, hardware=hardware)


def _other_input(what: str, other: list[str], config: Config) -> str:
    """Which files are not the recipe's, each with its path here."""
    from harness.config.state_key import flat
    from harness.config.validate import to_plain

    paths = dict(flat(to_plain(config)))
    named = {"model": "model.path", "tokenizer": "tokenizer.path", "teacher": "objective.teacher", "chat_template": "data.chat_template"}
    sources = [name for name in other if name.startswith("data.")] or [name for name in other if name == "data"]
    lines = []
    for name in [*sources, *(name for name in other if name in named)]:
        key = named.get(name, f"{name}.path")
        given = paths.get(key)
        lines.append(
            f"{key}={given}: not the {name} that {what} was trained with, by its fingerprint" if given else f"{name}: not the same"
        )
    return "\n".join([*lines, "valid: the same content, given by its key; or --anyway, to train on what is here"])


def _train(config: Config, original: Original, directory: Path | None) -> tuple[Path, Result]:
    from harness.cli.train import run_again

    return run_again(config, label=f"reproduce-{original.name}", directory=directory)


def _noise_here(config: Config, original: Original, seeds: int) -> dict[str, Any]:
    """Mean and noise over fresh seeds on this machine."""
    values = []
    for seed in range(original.seed + 1, original.seed + 1 + seeds):
        _, result = _train(dataclasses.replace(config, seed=seed), original, None)
        if original.metric and result.state == "complete":
            values.append(result.metrics[original.metric])
    if len(values) < 2:
        raise InputError(f"--seeds={seeds}: fewer than two of them came to their end")
    return {"mean": statistics.fmean(values), "seeds": len(values), "sd": statistics.stdev(values), "degrees": float(len(values) - 1)}


def _show_differences(original: Original, found: list[Difference]) -> None:
    from rich.console import Console
    from rich.table import Table

    from harness.report.table import show

    console = Console()
    same = len(original.result.fingerprints) - sum(one.matters == "input" for one in found)
    if not found:
        console.print(f"{original.name}: data, tokenizer, model, versions and hardware are the same here ({same} fingerprints)")
        return
    table = Table("what differs", "there", "here", "kind", box=None, pad_edge=False)
    for one in found:
        table.add_row(one.what, one.there, one.here, one.matters)
    console.print(f"{original.name}: {same} of {len(original.result.fingerprints)} fingerprints are the same here")
    show(table, console)


def _show(original: Original, compared: Reproduction, run: Path) -> None:
    typer.echo(f"{original.name}: {HEADINGS[compared.verdict]}: {compared.why}")
    if compared.verdict != "exact" and compared.rows.first_difference:
        typer.echo(f"  first difference: {compared.rows.first_difference}")
    typer.echo(f"  {run}")
