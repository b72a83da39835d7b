"""The best configuration as an experiment: a file that anyone can compose, run and read, and hand on.

Private keys (paths of this machine, accounts) are in local/best/NAME.yaml beside it, which the experiment includes where it exists; it is
not for sharing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from harness.config.compose import compose
from harness.config.errors import InputError
from harness.config.load import load
from harness.config.locations import overlay_dir
from harness.config.nested import flat, lookup, set_value
from harness.config.overrides import Deletion, GroupOverride, hydra_text, parse
from harness.config.private import Scrub, is_owner_specific
from harness.config.schema import Config
from harness.config.validate import to_plain, to_section
from harness.evaluation.kinds import main_metrics
from harness.runs.bundle import FOLDER, PLAIN_NAME
from harness.runs.chances import Chance
from harness.runs.constraints import Bound, limits_of
from harness.runs.files import read_yaml, write_text, write_yaml
from harness.runs.paired import CONFIDENCE
from harness.runs.record import RunRecord, StudyRecord
from harness.search.sweep import Sweep

LOCAL = f"local/{FOLDER}"
TO_BE_GIVEN = "???"


def experiment_path(name: str) -> Path:
    """Where the experiment NAME goes. Raises InputError for a name that cannot be a file."""
    if not PLAIN_NAME.fullmatch(name):
        raise InputError(f"--export={name}: expected a plain name, e.g. my_recipe")
    return overlay_dir() / "experiment" / FOLDER / f"{name}.yaml"


def write_experiment(path: Path, delta: Mapping[str, Any], header: list[str], best: RunRecord, scrub: Scrub) -> None:
    """Write the experiment file and its private part, and check that they compose to the run's own configuration.

    delta: from `delta_of_trial` or `delta_of_run`. Raises InputError where files cannot be written.
    """
    name, local = path.stem, overlay_dir() / LOCAL / path.name
    body, private = _apart({key: value for key, value in delta.items() if key != "defaults"}, scrub)
    config = dict(flat(best.config))
    for key in paths_to_give(best.config, scrub):
        # Those that an experiment of one's own names, too: `harness reproduce` looks here for all of them.
        set_value(private, key, config[key])
    # Hydra wants overrides of groups last; what is the owner's comes after the experiments, whose values it replaces.
    experiments = [item for item in delta["defaults"] if isinstance(item, str)]
    groups = [item for item in delta["defaults"] if not isinstance(item, str)]
    defaults = [*experiments, *([{f"optional /{LOCAL}@_global_": name}] if private else []), *groups, "_self_"]
    try:
        if private:
            write_text(local.parent / ".gitignore", "*\n")
            write_yaml(local, private, header=_comments([f"Of {FOLDER}/{name}, on this machine alone: not for handing on."]))
        else:
            local.unlink(missing_ok=True)
        write_yaml(path, {"defaults": defaults, **body}, header=_comments(header))
    except OSError as error:
        raise InputError(f"--export={name}: {path} cannot be written: {error.strerror}") from error
    _verify([path, local], best, f"{FOLDER}/{name}")


def _comments(lines: list[str]) -> str:
    return "# @package _global_\n" + "".join(f"# {line}\n" for line in lines)


def _apart(body: Mapping[str, Any], scrub: Scrub) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recipe, and its private part."""
    shared: dict[str, Any] = {}
    private: dict[str, Any] = {}
    for key, value in flat(dict(body)):
        is_owners = is_owner_specific(key)
        if is_owners or scrub.leaf(key, value) != value:
            set_value(private, key, value)
        if not is_owners:
            set_value(shared, key, TO_BE_GIVEN if scrub.leaf(key, value) != value else value)
    return shared, private


def delta_of_trial(sweep: Sweep, best: RunRecord) -> dict[str, Any]:
    """The trial as a delta on the experiments that its study's base names: `defaults` (without _self_), and values."""
    choices, values = sweep.space.split(best.params)
    defaults: list[Any] = []
    body: dict[str, Any] = {}
    for override in parse([*sweep.config.base, *choices], Config):
        match override:
            case GroupOverride(group="experiment"):
                defaults.append(f"/experiment/{override.choice}")
            case GroupOverride(group=group) if is_owner_specific(f"{group}."):
                body[group] = dict(best.config[group])
            case GroupOverride():
                # Group choices of the base and of the space: the last one stands.
                defaults = [item for item in defaults if not (isinstance(item, dict) and f"override /{override.group}" in item)]
                defaults.append({f"override /{override.group}": override.choice})
            case Deletion():
                raise InputError(f"base: {override.text} cannot be written into an experiment file; give the value instead")
            case _:
                # Of its owner's environment, what came of it: a recipe holds values.
                is_resolved = "${" in override.text
                set_value(body, override.key, lookup(best.config, override.key) if is_resolved else override.value)
    for key, value in values.items():
        set_value(body, key, value)
    return {"defaults": defaults, **body}


def delta_of_run(run: RunRecord) -> dict[str, Any]:
    """A single run: the keys in which it differs from a run without any override."""
    plain = dict(flat(compose("config", Config, []).values))
    body: dict[str, Any] = {}
    for key, value in flat(run.config):
        if plain.get(key, ...) != value and not (value == {} and key not in plain):
            set_value(body, key, value)
    return {"defaults": [], **body}


def header_of(study: StudyRecord | None, best: RunRecord, name: str, to_give: Mapping[str, str]) -> list[str]:
    """What a reader should know before trusting it, a comment a line."""
    result = best.result
    source = f"The run {best.name}."
    if study:
        which = "The best" if study.best is best else "A trial"
        source = f"{which} of study {study.name}: trial {best.number} of {len(study.runs)}."
    return [
        f"{source} Run it again: harness train experiment={FOLDER}/{name}",
        *(_found(study, best) if study else (f"{metric}: {result.metrics[metric]:.6g}" for metric in main_metrics(result.metrics))),
        f"{result.tokens.length:,} tokens in {result.seconds:.0f} s on "
        + ", ".join([result.hardware.get("cpu", "unknown hardware"), *result.hardware.get("gpus", [])]),
        # Shortened: a whole one has the shape of a W&B key, which would be removed.
        f"commit {(result.git_commit or 'unknown')[:12]}, "
        + ", ".join(f"{package} {version}" for package, version in result.versions.items()),
        *(f"{what} {fingerprint[:16]}" for what, fingerprint in result.fingerprints.items()),
        *(f"to be given: {key}=… ({what})" for key, what in to_give.items()),
        f"exported {date.today().isoformat()}; `harness reproduce {name}` checks its bundle, {name}/, and compares",
    ]


def paths_to_give(config: Mapping[str, Any], scrub: Scrub) -> dict[str, str]:
    """By configuration key the files that others have elsewhere, under the names that stand in the recipe for them, and what else holds
    private texts."""
    leaves = [(key, value, scrub.leaf(key, value)) for key, value in flat(dict(config)) if not is_owner_specific(key)]
    return {key: shared if isinstance(shared, str) else hydra_text(shared) for key, value, shared in leaves if shared != value}


def _found(study: StudyRecord, best: RunRecord) -> Iterator[str]:
    confirmed = study.confirmed if study.is_confirmed(best) else None
    metrics = confirmed.metrics if confirmed else best.result.metrics
    if confirmed and confirmed.interval and study.confirmation:
        mean, confirmation, seeds = confirmed.interval, study.confirmation, sorted(confirmed.values)
        yield (
            f"{study.objective.metric}: {mean.mean:.6g} ± {mean.half_width:.2g} ({study.objective.direction}; mean and {CONFIDENCE:.0%} "
            f"interval over {confirmed.behind_the_mean}, {seeds[0]} to {seeds[-1]}; sd {mean.sd:.2g})"
        )
        chance = confirmation.probabilities.get(confirmed.number)
        if chance is not None:
            yield f"confirmed: the best of {len(confirmation.ranked)} candidates with probability {chance:.2f}"
        yield f"in the search: {best.result.objective:.6g} (one seed)"
    else:
        yield f"{study.objective.metric}: {best.result.objective:.6g} ({study.objective.direction}; unconfirmed, one seed)"
    if broken := study.breaks(best):
        yield f"it breaks a constraint of its study: {', '.join(broken)}"
    tried = study.confirmation.candidate(best.number) if study.confirmation and study.confirmation.is_complete else None
    chances = tried.chances if tried else {}
    yield from (
        f"{metric}: {metrics[metric]:.6g} ({_bound(bound, chances.get(metric))})"
        for metric, bound in study.constraints.items()
        if metric in metrics
    )


def _bound(bound: Bound, chance: Chance | None) -> str:
    limits = " and ".join(f"{'<=' if side == 'max' else '>='} {limit}" for side, limit in limits_of(bound).items())
    asked = f" with chance {bound['chance']}" if "chance" in bound else ""
    met = f"; a fresh seed meets it with chance {chance.mean:.2f}, from {chance.low:.2f} to {chance.high:.2f}" if chance else ""
    return f"{limits}{asked}{met}"


def _verify(paths: list[Path], best: RunRecord, experiment: str) -> None:
    """The exported file must mean exactly what the run did."""
    try:
        composed = to_plain(load([f"experiment={experiment}"]).config)
        # A run of an older harness lacks keys that came since: they were at their defaults.
        ran = to_plain(to_section(Config, read_yaml(best.directory.config)))
        for config in (composed, ran):
            # Threads follow from the machine and the number of workers, tracking from its owner; they are no part of the recipe.
            config["trainer"].pop("threads")
            config.pop("tracking")
        if composed != ran:
            raise RuntimeError(f"{paths[0]} would compose to another configuration than {best.directory.config}")
    except BaseException:
        for path in paths:
            path.unlink(missing_ok=True)
        raise
