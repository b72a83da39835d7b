"""Planning a confirmation: the best trials of a study over fresh seeds, as a small study beside it.

The search's own runs are not counted among the seeds: they were chosen for their values, so that their luck would flatter the candidates.
The study that is confirmed is only read; its budget is not charged.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from harness.config.errors import InputError, wrong_value
from harness.config.launcher_schema import LauncherConfig
from harness.config.merge_words import KEY
from harness.config.schema import DataConfig, each
from harness.config.steering_controls import DRAW_KEY, has_noise
from harness.config.sweep_schema import BudgetConfig, SearchConfig, StoppingConfig
from harness.config.writable import check_writable
from harness.evaluation.kinds import place_of
from harness.runs.cache import default_cache_dir
from harness.runs.confirmation_plan import (
    RUN,
    ConfirmationPlan,
    confirmation_directory,
    ingredient_run,
    launch_of,
    read_plan,
    write_plan,
)
from harness.runs.directory import StudyDirectory
from harness.runs.files import read_yaml, write_yaml
from harness.runs.fresh_seeds import outcome
from harness.runs.locks import hold
from harness.runs.record import RunRecord, StudyRecord
from harness.search.steering_controls import DRAWS
from harness.search.storage.build import connect
from harness.search.sweep import Sweep, thaw
from harness.search.warm_start import Start
from harness.search.workers import living_workers

log = logging.getLogger("harness")
SEEDS = 2**32
"""Seeds are whole numbers below this."""
SEED_KEYS = ("seed", "sampling.seed")
LOCK_SECONDS = 10.0


def open_confirmation(
    study: StudyRecord,
    *,
    top: int,
    seeds: int,
    workers: int | None,
    launcher: LauncherConfig | None = None,
    trials: Sequence[int] = (),
    retrained: Mapping[str, str] | None = None,
    first: Callable[[StudyDirectory, ConfirmationPlan], None] | None = None,
) -> StudyDirectory:
    """The directory of the confirmation, with its plan and sweep written: a new one, or the one that exists, extended.

    A plan only grows: candidates and seeds of an earlier call stay, and every candidate gets every seed. A stop request that stands is
    withdrawn.
    top: how many of the study's best trials; seeds: how many seeds each; workers: at a time, None for as many as the study had; launcher:
    None for the study's; trials: the numbers of those to take instead of the best; retrained: as of `ConfirmationPlan`, None for what the
    plan that exists says; first: makes what the plan's runs need, before any worker may start them.
    Raises InputError for numbers that the study cannot fill, and for a directory that belongs to something else.
    """
    sweep, numbers = check_confirmation(study, top=top, seeds=seeds, trials=trials)
    directory = confirmation_directory(study.directory)
    # Before anything is written: a database that cannot be reached or used ends here.
    connect(directory, sweep.config.storage, str(launch_of(study.sweep))).close()
    check_writable(directory.path, "directory of the confirmation")
    lock = hold(directory.path / ".plan.lock", wait_seconds=LOCK_SECONDS)
    if lock is None:
        raise InputError(f"{directory.path}: another harness confirm is writing its plan; try again")
    try:
        plan = _with_retrained(read_plan(directory) or empty_plan(study, sweep), retrained, directory)
        plan = _extended(plan, numbers, seeds)
        launched_by = dataclasses.replace(launcher or sweep.config.launcher, workers=workers or sweep.config.launcher.workers)
        _say_where_prompts_lack(write_confirmation(study, sweep, plan, launched_by, first=first).start.points)
    finally:
        lock.release()
    directory.stop_request.unlink(missing_ok=True)
    return directory


def check_confirmation(study: StudyRecord, *, top: int, seeds: int, trials: Sequence[int] = ()) -> tuple[Sweep, list[int]]:
    """What `open_confirmation` refuses, with nothing written; the study's sweep, and the numbers of the trials that are to be confirmed.

    Raises InputError.
    """
    if study.confirms is not None:
        raise InputError(f"{study.name} is the confirmation of {study.confirms}: harness confirm {study.confirms} --top K --seeds N")
    if study.sweep.get("confirms_itself") and living_workers(study.directory):
        raise InputError(
            f"{study.name}: its workers confirm its best themselves (search.confirm); wait for them, or `harness stop {study.name}` first"
        )
    if seeds < 2:
        raise wrong_value("--seeds", seeds, "expected at least 2: one run says nothing about seed noise")
    if top < 1:
        raise wrong_value("--top", top, "expected at least 1")
    sweep = thaw(study.directory.sweep)
    refuse_without_noise(study)
    chosen = _named(study, trials) if trials else _best(study, sweep, top)
    for run in chosen:
        sweep.trial_config(_point(sweep, run.params))
    refuse_foreign(study.directory, launch_of(study.sweep))
    return sweep, [run.number for run in chosen if run.number is not None]


def refuse_without_noise(study: StudyRecord) -> None:
    """Raise InputError for a study whose runs are the same with every seed."""
    if not has_noise(study.sweep.get("config", {})):
        raise InputError(
            f"{study.name}: the direction of adapter.vector is the same with every seed; harness best {study.name} says how far it leads "
            "what it has to beat, on pairs that chose nothing"
        )


def _best(study: StudyRecord, sweep: Sweep, top: int) -> list[RunRecord]:
    """The best of the search."""
    found = different_configurations(study, sweep)
    if not found:
        raise InputError(f"{study.name}: no trial of full length is complete and within the constraints; there is nothing to confirm")
    if top > len(found):
        raise wrong_value(
            "--top",
            top,
            f"{study.name} has {len(found)} different configurations that are complete, full-length and within the constraints",
        )
    return found[:top]


def different_configurations(study: StudyRecord, sweep: Sweep) -> list[RunRecord]:
    """The trials of a study that may be confirmed, the best first: each configuration once, and those that came to the same, too."""
    found: dict[str, RunRecord] = {}
    outcomes = set()
    for run in study.ranked:
        if study.has_full_length(run) and outcome(run) not in outcomes:
            outcomes.add(outcome(run))
            found.setdefault(json.dumps(_point(sweep, run.params), sort_keys=True), run)
    return list(found.values())


def _named(study: StudyRecord, numbers: Sequence[int]) -> list[RunRecord]:
    """Whoever names a trial may want one that broke a constraint with the search's seed."""
    runs = {run.number: run for run in study.runs}
    chosen = []
    for number in dict.fromkeys(numbers):
        run = runs.get(number)
        if run is None:
            raise wrong_value("--trial", number, f"the trials of {study.name} are 0 to {len(study.runs) - 1}")
        if run.state != "complete" or not study.has_full_length(run):
            state = "a shorter run" if run.state == "complete" else run.state
            raise wrong_value("--trial", number, f"it is {state}; expected a trial that is complete and of full length")
        chosen.append(run)
    return chosen


def _point(sweep: Sweep, params: dict[str, Any]) -> dict[str, Any]:
    keys = [parameter.key for parameter in sweep.space.parameters]
    return {key: params[key] for key in keys if key in params and not _is_fresh(key)}


def _is_fresh(key: str) -> bool:
    """Whether a confirmation gives the key a value of its own in each run."""
    return key in (*SEED_KEYS, DRAW_KEY) or (key.startswith("data.") and key.endswith((".skip_prompts", ".block")))


def fresh_values(sweep: Sweep, params: dict[str, Any], seed: int, *, place: int) -> dict[str, Any]:
    """What a run has in place of the search's luck: its seed; where the study judges texts, other prompts and other noise; where it
    merges models, other documents: a merge has no seed, but for random masks, and what its choice overfits are the documents; and where it
    steers, another draw of the pairs that the direction is found from, or another random direction.

    Each seed has a block of .max_prompts prompts behind those of the search; where there are fewer blocks than seeds, they take turns.
    place: 0, 1, … of the seed among the plan's.
    """
    fresh: dict[str, Any] = {"seed": seed}
    data = sweep.trial_config(_point(sweep, params)).data
    if sweep.base.config.model.merge.method is not None:
        fresh |= {f"data.validation.{name}.block": given.block + 1 + place for name, given in data.validation.items()}
    if sweep.base.config.adapter.pairs is not None:
        fresh[DRAW_KEY] = DRAWS + place
    sets = data.generation
    metrics = [*(objective.metric for objective in sweep.objectives), *sweep.constraints]
    judged = [name for name in sets if any(metric.startswith(f"{place_of('generation', name)}/") for metric in metrics)]
    for name in judged:
        fresh["sampling.seed"] = seed
        given = sets[name]
        behind = 0 if given.max_prompts is None else _prompts(data, name) - given.skip_prompts - given.max_prompts
        if given.max_prompts is not None and behind > 0:
            block = place % max(1, behind // given.max_prompts)
            fresh[f"data.generation.{name}.skip_prompts"] = given.skip_prompts + (1 + block) * given.max_prompts
    return fresh


@cache
def _rows_of(paths: tuple[str, ...], split: str | None, subset: str | None, key: str, cache_dir: Path) -> int:
    # With pyarrow, which a study that judges no text does without.
    from harness.data.rows import read_rows
    from harness.data.sources import find_sources

    files = find_sources(list(paths), key=key, split=split, subset=subset, cache_dir=cache_dir).files
    return sum(1 for file in files for _ in read_rows(file, (), key=key))


def _prompts(data: DataConfig, name: str) -> int:
    given = data.generation[name]
    return _rows_of(tuple(each(given.path)), given.split, given.subset, f"data.generation.{name}", default_cache_dir(data.cache_dir))


def _say_where_prompts_lack(points: Sequence[dict[str, Any]]) -> None:
    """Warn where a confirmation cannot judge every seed on prompts of its own."""
    judged = {key.removesuffix(".skip_prompts"): key for point in points for key in point if key.endswith(".skip_prompts")}
    seeds = len({point["seed"] for point in points})
    for place, key in judged.items():
        if (blocks := len({point[key] for point in points})) < seeds:
            log.warning("%s: %d seeds share %d blocks of other prompts; more prompts, or a smaller .max_prompts, give each its own",
                        place, seeds, blocks)  # fmt: skip
    if "sampling.seed" in points[0] and not judged:
        log.warning(
            "data.generation: the search has seen all prompts, so they are judged again with other noise alone; keep some back by a "
            "smaller .max_prompts"
        )


def refuse_foreign(study: StudyDirectory, launched: str | None) -> None:
    """Raise InputError where something else than a confirmation of the study that was launched then lies where its own would."""
    directory = confirmation_directory(study)
    plan = read_plan(directory)
    if plan is None:
        # What a call that died left before its plan is ours: hidden locks and an empty journal.
        if directory.path.exists() and any(
            not path.name.startswith(".") and path != directory.journal for path in directory.path.iterdir()
        ):
            raise InputError(f"{directory.path}: exists, and is no confirmation of {study.name}; move it away")
    elif plan.launched != launched:
        raise InputError(f"{directory.path}: confirms an earlier study of the name {study.name}; move it away")


def empty_plan(study: StudyRecord, sweep: Sweep) -> ConfirmationPlan:
    """The plan of a study that nothing is confirmed of yet: with seeds that its search has not used."""
    base = sweep.base.config
    searched = [base.seed, base.sampling.seed, *(run.params[key] for run in study.runs for key in SEED_KEYS if key in run.params)]
    return ConfirmationPlan(study.name, launch_of(study.sweep), (max(searched) + 1) % SEEDS, [])


def _with_retrained(plan: ConfirmationPlan, retrained: Mapping[str, str] | None, directory: StudyDirectory) -> ConfirmationPlan:
    """All runs of a confirmation are of merges of the same kind."""
    if retrained is None or plan.retrained == retrained:
        return plan
    if plan.runs:
        raise InputError(f"--retrain: the runs in {directory.path} merged other ingredients; valid: move it away, or without --retrain")
    return dataclasses.replace(plan, retrained=dict(retrained))


def _extended(plan: ConfirmationPlan, numbers: list[int], seeds: int) -> ConfirmationPlan:
    """Every candidate with every seed; by seed, so that a confirmation that is stopped early has whole seeds to compare. Where the study
    has confirmed by itself, those that it dropped stay as they are."""
    earlier = [] if plan.charged else plan.candidates
    candidates = [*earlier, *(number for number in numbers if number not in earlier)]
    wanted = [
        {"candidate": candidate, "seed": seed_at(plan, place)}
        for place in range(seeds if plan.charged else max(seeds, len(plan.seeds)))
        for candidate in candidates
    ]
    return dataclasses.replace(plan, runs=[*plan.runs, *(run for run in wanted if run not in plan.runs)])


def seed_at(plan: ConfirmationPlan, place: int) -> int:
    """The seed at a place of the order in which seeds are given."""
    return (plan.first_seed + place) % SEEDS


def confirmation_sweep(study: StudyRecord, sweep: Sweep, plan: ConfirmationPlan, launcher: LauncherConfig) -> Sweep:
    """The sweep of a study's confirmation, whose points are the plan's runs. sweep: the study's."""
    runs = {run.number: run for run in study.runs}
    config, search = sweep.config, sweep.config.search
    directory = confirmation_directory(study.directory)
    points = [
        {
            **_point(sweep, params),
            **fresh_values(sweep, params, run["seed"], place=(run["seed"] - plan.first_seed) % SEEDS),
            **_ingredients(plan, directory, run["seed"]),
        }
        for run in plan.runs
        for params in [runs[run["candidate"]].params]
    ]
    fresh = {key: {"low": 0, "high": SEEDS - 1} for key in sorted({key for point in points for key in point if _is_fresh(key)})}
    others = {key: {"choices": sorted({point[key] for point in points})} for key in _ingredients(plan, directory, plan.first_seed)}
    return sweep.beside(
        directory.name,
        dataclasses.replace(
            config,
            space={**config.space, **fresh, **others},
            # Every value is given. What else the study says of its trials stands: constraints, attempts, trunks.
            search=SearchConfig(
                name="random",
                confirm=False,
                max_attempts=search.max_attempts,
                max_failures=search.max_failures,
                trunks=search.trunks,
                trunk_disk_gb=search.trunk_disk_gb,
            ),
            stopping=StoppingConfig(),
            budget=BudgetConfig(trials=len(plan.runs)),
            launcher=launcher,
        ),
        Start(points=points),
    )


def _ingredients(plan: ConfirmationPlan, directory: StudyDirectory, seed: int) -> dict[str, str]:
    """The ingredients that were trained again for a seed, by configuration key."""
    return {
        f"{KEY}.ingredients.{name}.path": word.replace(RUN, str(ingredient_run(directory, name, seed).path))
        for name, word in plan.retrained.items()
    }


def write_confirmation(
    study: StudyRecord,
    sweep: Sweep,
    plan: ConfirmationPlan,
    launcher: LauncherConfig,
    *,
    first: Callable[[StudyDirectory, ConfirmationPlan], None] | None = None,
) -> Sweep:
    """Write confirmation.json and sweep.yaml of a study's confirmation; its sweep, as of `confirmation_sweep`.

    first: what is done between the two.
    """
    directory, small = confirmation_directory(study.directory), confirmation_sweep(study, sweep, plan, launcher)
    launched = (
        str(read_yaml(directory.sweep)["launched"]) if directory.sweep.exists() else datetime.now(UTC).isoformat(timespec="milliseconds")
    )
    # The plan first: from sweep.yaml on, workers may start what it names.
    write_plan(directory, plan)
    if first is not None:
        first(directory, plan)
    header = f"# The confirmation of {study.name}: its best trials over fresh seeds (confirmation.json). Read by every worker.\n"
    write_yaml(directory.sweep, {**small.frozen(), "launched": launched}, header=header)
    return small
