"""Exporting a recipe: a winner's configuration, its search and a report."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from harness.config.compose import defaults
from harness.config.errors import InputError
from harness.config.introspect import find
from harness.config.locations import in_home, overlay_dir
from harness.config.overrides import GroupOverride, parse
from harness.config.private import Scrub
from harness.config.remote_path import hub_name
from harness.config.schema import Config, ModelConfig, SamplingConfig, each
from harness.config.sweep_schema import SweepConfig
from harness.config.validate import to_section
from harness.evaluation.kinds import main_metrics
from harness.generation.serving import ServedFile, served_files
from harness.report.importances import Importances, parameter_importances
from harness.report.recipe_pictures import pictures
from harness.report.recipe_readme import ingredient_file, readme
from harness.report.text import metric_text
from harness.runs.bundle import Bundle, BundleDirectory
from harness.runs.files import append_json_line, scratch_directory, write_text, write_yaml
from harness.runs.on_report import on_report, report_lines
from harness.runs.record import RunRecord, StudyRecord
from harness.runs.trials_table import METRICS, PARAMS, prefixed, write_trials
from harness.search.experiment_export import (
    delta_of_run,
    delta_of_trial,
    experiment_path,
    header_of,
    paths_to_give,
    write_experiment,
)
from harness.search.scaling import model_size
from harness.search.sweep import Sweep, thaw
from harness.work.family import family_of, mergekit_words, with_single_models

SWEEP_KEYS = ("objective", "constraints", "space", "search", "stopping", "budget")
"""The keys of a frozen sweep that define the search; the rest says where it ran, or follows."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    experiment: Path
    bundle: Path


def export_recipe(study: StudyRecord | None, best: RunRecord, name: str) -> Exported:
    """Write experiment/best/NAME.yaml and the bundle NAME/ beside it, under --config-dir or ./conf.

    study: what the run is a trial of; None for a single run. An earlier export of the same name is replaced.
    Raises InputError for a name that cannot be a file, for a run that is not complete, and where nothing can be written.
    """
    path, scrub = experiment_path(name), Scrub.of_this_machine()
    if best.state != "complete":
        raise InputError(f"{best.name}: {best.state}; only a complete run can be exported")
    sweep = thaw(study.directory.sweep, goes_on=False) if study else None
    delta = delta_of_trial(sweep, best) if sweep else delta_of_run(best)
    config = with_single_models(best.config)
    bundle = _bundle(study, sweep, best, config, name, scrub)
    write_experiment(
        path, delta, [scrub.text(line) for line in header_of(study, best, name, paths_to_give(best.config, scrub))], best, scrub
    )
    try:
        directory = _write_bundle(path, bundle, study, best, config, scrub)
    except OSError as error:
        raise InputError(f"--export={name}: {path.with_suffix('')} cannot be written: {error.strerror}") from error
    return Exported(path, directory)


def _bundle(study: StudyRecord | None, sweep: Sweep | None, best: RunRecord, config: dict[str, Any], name: str, scrub: Scrub) -> Bundle:
    result = best.result
    confirmation = study.confirmation if study else None
    mine = confirmation.candidate(best.number) if confirmation and confirmation.is_complete else None
    confirmed = bool(study and study.is_confirmed(best))
    noise = confirmation.noise if confirmation and mine else None
    interval = mine.interval if mine else None
    importances = parameter_importances(study) if study else Importances()
    return Bundle(
        name=name,
        created=date.today().isoformat(),
        study=scrub.text(study.name) if study else None,
        trial=best.number,
        trials=len(study.runs) if study else 1,
        base=_experiments(sweep) if sweep else [],
        task={"objective": config["objective"]["name"], "adapter": config["adapter"]["name"]},
        model=_model(config, result.parameters, scrub),
        datasets=sorted({public for path in _source_paths(config) if (public := _public(path, scrub)) is not None}),
        metric=study.objective.metric if study else _main_metric(best),
        direction=study.objective.direction if study else "minimize",
        objective=interval.mean if interval else result.objective if study else result.metrics.get(_main_metric(best) or ""),
        confirmed=confirmed,
        interval=[interval.low, interval.high] if interval else None,
        seeds=sorted(mine.results) if mine else [],
        noise={"sd": noise.sd, "degrees": float(confirmation.degrees)} if noise and confirmation else None,
        constraints=study.constraints if study else {},
        metrics=result.metrics,
        metrics_over_seeds=mine.metrics if mine else {},
        chances={metric: chance.mean for metric, chance in mine.chances.items()} if mine else {},
        params={key: scrub.leaf(key, value) for key, value in best.params.items()},
        space=scrub.value(study.sweep.get("space") or {}) if study else {},
        groups=_groups(sweep, best),
        importances=importances.shares,
        importances_note=importances.note,
        seed=config["seed"],
        steps=result.step,
        tokens=result.tokens,
        seconds=result.seconds,
        versions=result.versions,
        git_commit=result.git_commit,
        fingerprints=result.fingerprints,
        hardware=result.hardware,
        to_give=paths_to_give(config, scrub),
        served=[
            {
                "engine": file.engine,
                "file": file.name,
                "verdict": file.served.verdict,
                "notes": [f"{note.about}: {note.verdict}, {note.why}" for note in file.served.notes],
            }
            for file in _served_files(best)
        ],
        confirmation=scrub.value(confirmation.to_json()) if confirmation else None,
        report=[scrub.text(line) for line in report_lines(found, metric_text)] if study and (found := on_report(study, best)) else [],
        ingredients=(family := family_of(config, result.fingerprints, scrub)),
        mergekit=mergekit_words(config, scrub)[1] if family else None,
    )


def _served_files(best: RunRecord) -> list[ServedFile]:
    """Of a run whose texts were judged; [] of others, whose way of sampling nobody looked at."""
    if not best.config["data"].get("generation"):
        return []
    return served_files(to_section(SamplingConfig, best.config["sampling"]), best.config["data"]["context_length"])


def _main_metric(run: RunRecord) -> str | None:
    """The metric of a single run: the main one of its first evaluation set."""
    return next(iter(main_metrics(run.result.metrics)), None)


def _experiments(sweep: Sweep) -> list[str]:
    chosen = [override for override in parse(sweep.config.base, Config) if isinstance(override, GroupOverride)]
    return [override.choice for override in chosen if override.group == "experiment" and override.choice]


def _groups(sweep: Sweep | None, best: RunRecord) -> dict[str, str | None]:
    if sweep is None:
        return {group: best.config[group]["name"] for group in ("objective", "adapter", "optim", "schedule")}
    return sweep.composed(sweep.space.split(best.params)[0]).composed.groups


def _model(config: dict[str, Any], parameters: Any, scrub: Scrub) -> dict[str, Any]:
    model = to_section(ModelConfig, config["model"])
    try:
        size: int | None = model_size(model)
    except InputError:
        size = None  # a hub's model, whose shape is not on this disk
    merge = model.merge.method
    name = scrub.path(model.path) if model.path else f"{model.family} from scratch" if merge is None else f"a merge by {merge}"
    hub = _public(model.path, scrub) if model.path else None
    return {
        "name": name,
        "hub": hub,
        "family": model.family if model.frame is None else None,
        "size": size,
        "parameters": asdict(parameters),
    }


def _source_paths(config: dict[str, Any]) -> list[str]:
    return [path for source in (config["data"].get("sources") or {}).values() for path in each(source["path"])]


def _public(path: str, scrub: Scrub) -> str | None:
    """ORG/NAME on the hub; None where a path is none, or says something private."""
    name = hub_name(path)
    return name.partition("@")[0] if name is not None and scrub.path(path) == path else None


def _write_bundle(path: Path, bundle: Bundle, study: StudyRecord | None, best: RunRecord, config: dict[str, Any], scrub: Scrub) -> Path:
    """Write all files and replace an earlier bundle in one step."""
    final = path.with_suffix("")
    overlay_dir().mkdir(parents=True, exist_ok=True)
    with scratch_directory(overlay_dir(), f".{final.name}.") as temporary:
        directory = BundleDirectory(temporary / final.name)
        write_yaml(directory.config, _config(config, directory, scrub), header="# Resolved; `harness reproduce` reads it.\n")
        shutil.copyfile(path, directory.experiment)
        if study is not None:
            write_yaml(directory.sweep, _question(study, scrub), header=f"# The question of {bundle.study}, to be asked again.\n")
        write_trials(directory.trials, _rows(study, best, scrub))
        for row in best.rows:
            append_json_line(directory.metrics.path, row)
        for served in _served_files(best):
            write_text(directory.path / served.name, served.text)
        _write_ingredients(directory, bundle, mergekit_words(config, scrub)[0])
        pictured = pictures(bundle, study, best.rows, shareable=scrub.leaf)
        for name, picture in pictured.items():
            write_text(directory.path / name, picture)
        write_text(directory.path / "README.md", readme(bundle, list(pictured), experiment=path.read_text("utf-8")))
        directory.write(bundle)
        if final.exists():
            final.rename(temporary / "before")
        directory.path.rename(final)
    return final


def _write_ingredients(directory: BundleDirectory, bundle: Bundle, mergekit: dict[str, Any] | None) -> None:
    """Of a merge, how each ingredient was made, and the recipe in mergekit's words."""
    for key, one in bundle.ingredients.items():
        if one["made_by"]:
            header = f"# {key}: `harness train --config` makes it again.\n"
            write_yaml(directory.path / ingredient_file(key), one["made_by"]["config"], header=header)
    if mergekit is not None:
        write_yaml(
            directory.path / "mergekit.yml", mergekit, header="# harness merge OUT mergekit.yml; or mergekit-yaml mergekit.yml OUT\n"
        )


def _config(given: dict[str, Any], directory: BundleDirectory, scrub: Scrub) -> dict[str, Any]:
    config = scrub.config(given)
    template = given["data"].get("chat_template")
    if template and template.endswith(".jinja"):
        write_text(directory.chat_template, in_home(template).read_text("utf-8"))
        config["data"]["chat_template"] = directory.chat_template.name
    return config


def _question(study: StudyRecord, scrub: Scrub) -> dict[str, Any]:
    """The sweep file without defaults and without keys that its kind of search does not read."""
    usual = defaults(SweepConfig)
    asked: dict[str, Any] = {key: study.sweep[key] for key in SWEEP_KEYS if key in study.sweep}
    for section in ("search", "stopping"):
        asked[section] = {
            key: value
            for key, value in asked[section].items()
            if key == "name" or (usual[section].get(key) != value and _is_read(section, key, asked[section]["name"]))
        }
    return {"base": scrub.overrides(parse(study.sweep.get("base") or [], Config)), **scrub.value(asked)}


def _is_read(section: str, key: str, kind: str) -> bool:
    item = find(SweepConfig, f"{section}.{key}")
    return item is not None and (not item.only_for or kind in item.only_for)


def _rows(study: StudyRecord | None, best: RunRecord, scrub: Scrub) -> list[dict[str, Any]]:
    rows = [_row("search" if study else "run", run, scrub) for run in (study.runs if study else [best])]
    for candidate in study.confirmation.candidates if study and study.confirmation else []:
        params = next((run.params for run in study.runs if run.number == candidate.number), {}) if study else {}
        for seed, result in candidate.results.items():
            row = {"role": "confirmation", "number": candidate.number, "seed": seed, "state": result.state}
            values = {"objective": result.metrics.get(candidate.metric), "seconds": result.seconds}
            scrubbed = {key: scrub.leaf(key, value) for key, value in params.items()}
            rows.append({**row, **values, **prefixed(PARAMS, scrubbed), **prefixed(METRICS, result.metrics)})
    return rows


def _row(role: str, run: RunRecord, scrub: Scrub) -> dict[str, Any]:
    result = run.result
    return {
        "role": role,
        "number": run.number,
        "seed": run.config.get("seed"),
        "state": run.state,
        "reason": scrub.text(result.reason) if result.reason else None,
        "feasible": result.feasible,
        "objective": result.objective,
        **prefixed(PARAMS, {key: scrub.leaf(key, value) for key, value in run.params.items()}),
        **prefixed(METRICS, result.metrics),
        **prefixed("tokens.", asdict(result.tokens)),
        "step": result.step,
        "seconds": result.seconds,
        "attempts": result.attempts,
    }
