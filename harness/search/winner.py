"""The best configuration of a study as an experiment: a file that anyone can compose, run and read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from harness.config.errors import InputError
from harness.config.load import load, set_value
from harness.config.locations import overlay_dir
from harness.config.overrides import Deletion, GroupOverride, parse
from harness.config.schema import Config
from harness.config.validate import to_plain
from harness.runs.files import read_yaml, write_yaml
from harness.runs.paired import CONFIDENCE
from harness.runs.record import RunRecord, StudyRecord
from harness.search.sweep import Sweep, thaw

FOLDER = "best"


def export(study: StudyRecord, best: RunRecord, name: str) -> Path:
    """Write conf/experiment/best/NAME.yaml as a delta on the study's base, check that it composes to the trial's own configuration, and
    return its path.

    Raises InputError for a name that cannot be a file, or where it cannot be written.
    """
    if not name or name.startswith(".") or any(character in name for character in "/\\,=:{}[]()'\" "):
        raise InputError(f"--export={name}: expected a plain name, e.g. my_recipe")
    sweep = thaw(study.directory.sweep)
    path = overlay_dir() / "experiment" / FOLDER / f"{name}.yaml"
    try:
        write_yaml(path, _delta(sweep, best), header=_header(study, best, name))
    except OSError as error:
        raise InputError(f"--export={name}: {path} cannot be written: {error.strerror}") from error
    _verify(path, best, f"{FOLDER}/{name}")
    return path


def _delta(sweep: Sweep, best: RunRecord) -> dict[str, Any]:
    choices, values = sweep.space.split(best.params)
    defaults: list[Any] = []
    body: dict[str, Any] = {}
    for override in parse([*sweep.config.base, *choices], Config):
        match override:
            case GroupOverride(group="experiment"):
                defaults.append(f"/experiment/{override.choice}")
            case GroupOverride():
                # Group choices of the base and of the space: the last one stands.
                defaults = [item for item in defaults if not (isinstance(item, dict) and f"override /{override.group}" in item)]
                defaults.append({f"override /{override.group}": override.choice})
            case Deletion():
                raise InputError(f"base: {override.text} cannot be written into an experiment file; give the value instead")
            case _:
                set_value(body, override.key, override.value)
    for key, value in values.items():
        set_value(body, key, value)
    return {"defaults": [*defaults, "_self_"], **body}


def _header(study: StudyRecord, best: RunRecord, name: str) -> str:
    result = best.result
    lines = [
        f"The best of study {study.name}: trial {best.number} of {len(study.runs)}. Run it again: harness train experiment={FOLDER}/{name}",
        *_found(study, best),
        f"{result.tokens.trained:,} tokens in {result.seconds:.0f} s on {result.hardware.get('cpu', 'unknown hardware')}"
        + "".join(f", {gpu}" for gpu in result.hardware.get("gpus", [])),
        f"commit {result.git_commit or 'unknown'}, " + ", ".join(f"{package} {version}" for package, version in result.versions.items()),
        *(f"{what} {fingerprint[:16]}" for what, fingerprint in result.fingerprints.items()),
        f"exported {date.today().isoformat()}",
    ]
    return "# @package _global_\n" + "".join(f"# {line}\n" for line in lines)


def _found(study: StudyRecord, best: RunRecord) -> Iterator[str]:
    confirmed = study.confirmed if study.is_confirmed(best) else None
    metrics = confirmed.metrics if confirmed else best.result.metrics
    if confirmed and confirmed.interval and study.confirmation:
        mean, confirmation = confirmed.interval, study.confirmation
        yield (
            f"{study.objective.metric}: {mean.mean:.6g} ± {mean.half_width:.2g} ({study.objective.direction}; mean and {CONFIDENCE:.0%} "
            f"interval over {len(confirmation.seeds)} seeds, {confirmation.seeds[0]} to {confirmation.seeds[-1]}; sd {mean.sd:.2g})"
        )
        chance = confirmation.probabilities.get(confirmed.number)
        if chance is not None:
            yield f"confirmed: the best of {len(confirmation.candidates)} candidates with probability {chance:.2f}"
        yield f"in the search: {best.result.objective:.6g} (one seed)"
    else:
        yield f"{study.objective.metric}: {best.result.objective:.6g} ({study.objective.direction}; one seed, not confirmed)"
    yield from (f"{metric}: {metrics[metric]:.6g} ({_bounds(bound)})" for metric, bound in study.constraints.items())


def _bounds(bound: dict[str, float]) -> str:
    return " and ".join(f"{'<=' if side == 'max' else '>='} {limit}" for side, limit in bound.items())


def _verify(path: Path, best: RunRecord, experiment: str) -> None:
    """The exported file must mean exactly what the trial ran."""
    composed = to_plain(load([f"experiment={experiment}"]).config)
    ran = read_yaml(best.directory.config)
    # Threads follow from the machine and the number of workers; they are no part of the recipe.
    composed["trainer"].pop("threads")
    ran["trainer"].pop("threads")
    if composed != ran:
        path.unlink()
        raise RuntimeError(f"{path} would compose to another configuration than {best.directory.config}")
