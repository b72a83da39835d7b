"""harness best: the winner of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion
from harness.cli.announce import announce
from harness.cli.arguments import AsJson, print_json
from harness.config.terminal import say
from harness.evaluation.kinds import metric_of, shown_name
from harness.runs.exit_codes import FAILED

if TYPE_CHECKING:
    from pathlib import Path

    from harness.runs.record import RunRecord, StudyRecord


def best(
    study: Annotated[
        str,
        typer.Argument(
            help="A study: its name under runs/, or its directory; or a run, or STUDY/NUMBER.", autocompletion=completion.studies
        ),
    ],
    export: Annotated[
        str | None, typer.Option(metavar="NAME", help="Write it to conf/experiment/best/NAME.yaml, with its bundle NAME/.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the best configuration of a study (the confirmed one, after `harness confirm`), and export it as an experiment to hand on."""
    from harness.report.text import metric_text
    from harness.runs.on_report import on_report, report_lines
    from harness.search.status import best_json

    if export is not None:
        announce(f"reading {study}")
    record, winner = _find(study)
    bundle = path = artifact = None
    if export is not None:
        from harness.work.recipe_export import export_recipe

        exported = export_recipe(record, winner, export)
        path, bundle = exported.experiment, str(exported.bundle)
        artifact = _to_wandb(record, exported.bundle) if record else None
    experiment = f"best/{export}" if export else None
    if record is None:
        _show_run(winner, as_json=as_json, experiment=experiment, bundle=bundle)
    else:
        confirmed = record.confirmed if record.is_confirmed(winner) else None
        metrics = confirmed.metrics if confirmed else winner.result.metrics
        report = on_report(record, winner)
        if as_json:
            confirmation = record.confirmation.to_json() if record.confirmation else None
            document = {"study": record.name, **(best_json(record, winner) or {}), "metrics": metrics, "confirmation": confirmation}
            on_documents = report.to_json() if report else None
            print_json({**document, "report": on_documents, "experiment": experiment, "bundle": bundle, "artifact": artifact})
        else:
            for line in _lines(record, winner):
                say(line)
            for line in report_lines(report, metric_text) if report else ():
                say(f"  {line}")
            for metric in record.constraints:
                say(f"  {metric} {metric_text(metrics.get(metric))}")
            for key, value in winner.params.items():
                say(f"  {key}={value}")
    if path is not None and not as_json:
        say(f"wrote {path}, and its bundle to hand on: {bundle}/README.md")
        if artifact:
            say(f"the bundle in W&B: {artifact}")
        say(f"run it again: harness train experiment=best/{export} seed=1; check and compare: harness reproduce {export}")


def _to_wandb(record: StudyRecord, bundle: Path) -> str | None:
    """Log the bundle as an artifact of the study's W&B run; returns its name. None if the study is not tracked online, or W&B fails."""
    from harness.tracking.study_overview import log_directory
    from harness.tracking.wandb_run import TrackingError

    try:
        return log_directory(record.directory, bundle, name=f"{record.name}-{bundle.name}", kind="bundle", aliases=[bundle.name])
    except TrackingError as error:
        say(f"the bundle is written, but not in W&B: {error}", err=True)
        return None


def _find(word: str) -> tuple[StudyRecord | None, RunRecord]:
    """The study with its best trial or the trial named, or a single run. Raises InputError; exits if there is no best trial."""
    from harness.config.errors import InputError
    from harness.runs.directory import find_run, find_study, is_run, run_called, study_called
    from harness.runs.record import load_run, load_study

    if study_called(word) is None and (word.rpartition("/")[2].isdigit() or run_called(word)):
        run = find_run(word)
        if run.study is None:
            return None, load_run(run)
        record = load_study(run.study)
        trial = next(one for one in record.runs if is_run(one.directory.path) and one.directory.path.samefile(run.path))
        if trial.state != "complete":
            why = f" ({trial.result.reason})" if trial.result.reason else ""
            raise InputError(f"{word}: the trial is {trial.state}{why}; valid: a complete one, see harness compare {record.name}")
        return record, trial
    record = load_study(find_study(word))
    if record.confirms is not None:
        raise InputError(f"{record.name} is the confirmation of {record.confirms}: harness best {record.confirms}")
    if record.best is None:
        nearest = record.nearest
        if nearest is None:
            reason = "it has no complete trial"
        else:
            complete = sum(run.state == "complete" for run in record.runs)
            reason = f"none of its {complete} complete trials meets the constraints; nearest: {', '.join(record.breaks(nearest))}"
            reason += f" (harness best {record.name}/{nearest.number} shows it, and exports it as it is)"
        say(f"{record.name}: no best configuration: {reason}", err=True)
        raise typer.Exit(FAILED)
    return record, record.best


def _show_run(run: RunRecord, *, as_json: bool, experiment: str | None, bundle: str | None) -> None:
    losses = {name: value for name, value in run.result.metrics.items() if metric_of(name)}
    if as_json:
        print_json({"study": None, "number": None, "run": run.name, "metrics": losses, "experiment": experiment, "bundle": bundle})
        return
    say(f"{run.name}: a single run, {run.state}")
    for name, value in losses.items():
        say(f"  {shown_name(name, value)} {value:.4f}")


def _lines(record: StudyRecord, winner: RunRecord) -> list[str]:
    from harness.report.confirmation_table import how_to_confirm, seeds_text, verdict
    from harness.report.text import metric_text

    what = f"{record.name}: trial {winner.number}, {record.objective.metric}"
    if broken := record.breaks(winner):
        return [f"{what} {metric_text(winner.result.objective)} (one seed, not confirmed)", f"  it breaks {', '.join(broken)}"]
    if record.confirmed and record.is_confirmed(winner):
        return [f"{what} {seeds_text(record.confirmed)}, confirmed", *verdict(record)]
    lines = [f"{what} {winner.result.objective:.4f} (one seed, not confirmed)"]
    return [*lines, *verdict(record)] if record.confirmation else [*lines, f"  {how_to_confirm(record)}"]
