"""What there is: studies, runs, recipes, and the configuration files that can be chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.config.errors import InputError
from harness.config.locations import choices, config_dirs, groups, shipped, sweep_dirs, sweep_names, synth_dirs, synth_names
from harness.config.user_yaml import head_comment
from harness.evaluation.kinds import main_metrics
from harness.runs.bundle import bundles
from harness.runs.directory import RunDirectory, StudyDirectory, is_run, is_study, runs_root
from harness.runs.record import load_run, load_study

SECTIONS = ("studies", "runs", "experiments", "sweeps", "synth", "recipes", "choices")
"""What `harness ls` can be asked for."""


def listing(sections: tuple[str, ...] = SECTIONS) -> dict[str, Any]:
    """The sections asked for, as `harness ls --json` prints them: a list of {name, path, …} each; choices are {group: [choice, …]}.

    What cannot be read stands there with `problem`, and takes nothing away of the others.
    """
    found: dict[str, Any] = {}
    for section in sections:
        match section:
            case "studies":
                found[section] = [_study(path) for path in _below_runs_root() if is_study(path)]
            case "runs":
                found[section] = [_run(path) for path in _below_runs_root() if is_run(path)]
            case "experiments":
                names = [name for name in choices("experiment") if not name.startswith("best/")]
                found[section] = [_file(name, "experiment", config_dirs()) for name in names]
            case "sweeps":
                found[section] = [_file(name, "", sweep_dirs()) for name in sweep_names()]
            case "synth":
                found[section] = [_file(name, "", synth_dirs()) for name in synth_names()]
            case "recipes":
                found[section] = list(_recipes())
            case "choices":
                found[section] = {group: choices(group) for group in groups() if "/" not in group and group != "experiment"}
    return found


def _below_runs_root() -> list[Path]:
    """Oldest first."""
    root = runs_root()
    return sorted((path for path in root.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime) if root.is_dir() else []


def _study(path: Path) -> dict[str, Any]:
    known = {"name": path.name, "path": str(path)}
    try:
        study = load_study(StudyDirectory(path))
        best = study.best
        return {
            **known,
            "trials": dict(Counter(run.standing for run in study.runs)),
            "metric": study.objective.metric,
            "best": None if best is None else best.number,
            "objective": None if best is None else best.result.objective,
            "confirms": study.confirms,
        }
    except (InputError, OSError, ValueError, TypeError, LookupError) as error:
        return {**known, "problem": f"cannot be read: {error}"}


def _run(path: Path) -> dict[str, Any]:
    known = {"name": path.name, "path": str(path)}
    try:
        run = load_run(RunDirectory(path))
        metrics = {name: run.result.metrics[name] for name in main_metrics(run.result.metrics)}
        return {**known, "state": run.state, "tokens": run.result.tokens.reached, "seconds": run.result.seconds, "metrics": metrics}
    except (InputError, OSError, ValueError, TypeError, LookupError) as error:
        return {**known, "problem": f"cannot be read: {error}"}


def _file(name: str, group: str, directories: list[Path]) -> dict[str, Any]:
    """A choice by its file: the first directory that has it counts."""
    path = next(found for base in directories if (found := base / group / f"{name}.yaml").is_file())
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return {"name": name, "path": str(shown), "shipped": _is_shipped(path), "about": about(path)}


def _is_shipped(path: Path) -> bool:
    """Whether the file came with the harness."""
    return any(path.is_relative_to(shipped(folder).resolve()) for folder in ("conf", "sweeps", "synth"))


def about(path: Path) -> str:
    """The first sentence of the comment that a configuration file begins with; "" where there is none."""
    text = head_comment(path)
    ends = [end for mark in (". ", "? ") if (end := text.find(mark)) >= 0]
    return text[: min(ends) + 1] if ends else text


def _recipes() -> Iterator[dict[str, Any]]:
    for name, directory in bundles():
        known = {"name": name, "path": str(directory.path), "experiment": f"best/{name}"}
        try:
            bundle = directory.read()
        except InputError as error:
            yield {**known, "problem": str(error)}
            continue
        yield {**known, "metric": bundle.metric, "objective": bundle.metrics.get(bundle.metric or ""), "exported": bundle.created}
