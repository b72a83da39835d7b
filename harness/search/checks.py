"""What a sweep must fulfil before anything starts: metrics that are logged, values that are read, a budget that holds a trial."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.config.checks.trainer import trains
from harness.config.errors import InputError, unknown, wrong_value
from harness.config.introspect import find
from harness.config.length import parse_length
from harness.config.schema import Config
from harness.config.sweep_schema import BudgetConfig
from harness.evaluation.kinds import RUN_METRICS, changes, higher_is_better, logged_metrics, logging_set, refuse_unlogged_monitors
from harness.runs.report_split import refuse_reported
from harness.search.budget import HOUR, SHORTEST_SECONDS
from harness.search.grid import refuse_large_grid
from harness.search.late_parameters import LateParameters
from harness.search.reserve import trials_of_search, why_not
from harness.search.samplers import GP_TRIALS, arms_of, check_sampler
from harness.search.steering_controls import check_blocks, check_controls, prompt_advice
from harness.search.sweep import Sweep
from harness.search.trunk_claims import at_once, rungs_of

POINTS = 16
"""Points of a space that are looked at before the start."""
PROPOSAL_SECONDS = {"gp": 1.0, "trunk": 0.5}
"""Of a processor, with hundreds of trials, under the study's lock (docs/benchmarks.md). Of other searches it is hundredths."""
MANY_WORKERS = 8
TRIALS_OF_A_RUN = 3
"""So many trials a trunk search makes, about, of the tokens of a run of full length."""


def check(sweep: Sweep) -> None:
    """Raise InputError for a sweep that could not be run as it stands."""
    config, base = sweep.config, sweep.base.config
    limits = (config.budget.trials, config.budget.tokens, config.budget.gpu_hours, config.budget.wall_hours)
    if limits == (None,) * len(limits) and config.search.name != "grid":
        raise InputError("budget: give at least one limit, e.g. budget: {trials: 32}; valid: trials, tokens, gpu_hours, wall_hours")
    if trains(base.trainer):
        metrics = [*logged_metrics(base.data), *RUN_METRICS]
        refuse_unlogged_monitors(base)
    else:
        metrics = [metric for metric in logged_metrics(base.data) if not changes(metric)]
    directions = {objective.metric: objective.direction for objective in sweep.objectives}
    for key, metric in [
        *(("objective.metric", objective.metric) for objective in sweep.objectives),
        *(("constraints", metric) for metric in config.constraints),
    ]:
        refuse_reported(key, metric)
        if metric not in metrics:
            raise unknown("metric", metric, metrics, where=key)
        if key == "objective.metric" and higher_is_better(metric, base.data) and directions[metric] == "minimize":
            raise wrong_value("objective.direction", "minimize", f"more of {metric} is better; valid: maximize")
    if len({objective.metric for objective in sweep.objectives}) < len(sweep.objectives):
        raise InputError("objective: a metric stands there twice")
    if any(objective.also for objective in config.objective.also):
        raise InputError("objective.also: objectives do not nest; give one list")
    for metric, bound in config.constraints.items():
        if bound.max is None and bound.min is None:
            raise InputError(f"constraints.{metric}: give max or min, e.g. {{max: 0.25}}")
        if bound.max is not None and bound.min is not None and bound.min > bound.max:
            raise InputError(f"constraints.{metric}: min={bound.min} exceeds max={bound.max}, nothing could meet both")
    _check_rungs(sweep)
    if config.search.confirm and (problem := why_not(sweep)) is not None:
        raise InputError(f"search.confirm=true: {problem}; valid: false, and `harness confirm` afterwards")
    check_sampler(config.search, sweep.space, objectives=len(sweep.objectives), trials=config.budget.trials)
    if config.search.name == "grid":
        refuse_large_grid(sweep.space, values_per_range=config.search.grid_values)
    check_blocks(sweep.base.config, sweep.space)
    check_controls(config, sweep.space, trials_of_search(sweep))
    _check_stopping(sweep)
    _check_time(config.budget, sweep.devices)
    _check_readers(sweep)
    _check_probes(sweep)
    if config.budget.tokens is not None and sweep.has_unbounded_trials:
        raise InputError(
            f"budget.tokens={config.budget.tokens}: how much a trial reads is not bounded, and it trains nothing; "
            "valid: data.max_evaluation_tokens=N, or another unit of the budget"
        )
    if config.budget.tokens is not None and config.budget.tokens < sweep.largest_trial_tokens:
        raise InputError(f"budget.tokens={config.budget.tokens}: less than one trial, which may take {sweep.largest_trial_tokens} tokens")


def advice(sweep: Sweep) -> Iterator[str]:
    """What is valid, and probably not what was meant, in words."""
    search, trials = sweep.config.search, sweep.config.budget.trials
    learns = search.name in ("tpe", "gp", "cmaes")
    arms = len(arms_of(search, sweep.space)) or 1
    trials = None if trials is None else trials // arms
    of_each = " for each arm" if arms > 1 else ""
    if learns and trials is not None and trials <= search.startup_trials and sweep.start.around is None:
        drawn = "from the prior" if sweep.start.prior else "at random"
        has = f"budget.trials={trials}" if arms == 1 else f"each arm has {trials}"
        yield (
            f"search={search.name} draws its first {search.startup_trials} trials {drawn} and {has}: nothing is learnt "
            f"from any of them; give more trials, or search.startup_trials={max(1, trials // 3)}"
        )
    for parameter in sweep.space.parameters:
        spec = sweep.config.space[parameter.key]
        if not parameter.choices and parameter.low == parameter.high and spec["low"] != spec["high"]:
            grain = "step" if spec.get("step") is not None else "multiple_of"
            yield f"space.{parameter.key}: {grain}={spec[grain]} leaves one value from {spec['low']} to {spec['high']}, {parameter.low}"
    if search.name == "gp" and (trials is None or trials > GP_TRIALS):
        yield f"search=gp: from trial {GP_TRIALS} on, tpe proposes{of_each}, since a Gaussian process would take seconds a proposal"
    seconds, workers = PROPOSAL_SECONDS.get(search.name, 0.0), sweep.config.launcher.workers
    if seconds and workers > MANY_WORKERS:
        yield (
            f"search={search.name}: a proposal takes up to {seconds} s, one worker at a time: where runs take less than "
            f"{workers * seconds:.0f} s, {workers} workers wait for each other; search=tpe takes hundredths"
        )
    if search.name == "trunk" and _may_end_by_trials(sweep):
        count, whole = sweep.config.budget.trials or 0, sweep.largest_trial_tokens
        tokens = "" if sweep.config.budget.tokens else f" budget.tokens={count * whole} (that of {count} whole runs)"
        yield (
            f"budget.trials={count}: most runs of a trunk search are short, and each counts as a trial; to go by tokens alone: "
            f"budget.trials=null{tokens}"
        )
    if search.name == "trunk" and search.confirm is None and (problem := why_not(sweep)) is not None:
        yield f"search.confirm is off: {problem}; `harness confirm {sweep.name}` afterwards says whether the best is lucky"
    if search.name == "trunk" and (runs := at_once(sweep)) is not None and runs < workers:
        yield (
            f"launcher.workers={workers}: of budget.tokens={sweep.config.budget.tokens} a trunk search has about {runs} of full length "
            "under way at a time, so that later ones learn from these; other workers run short ones, or wait"
        )
    yield from prompt_advice(sweep.base.config, sweep.space)
    failing = _failing_points(sweep)
    if failing:
        point, error = failing[0]
        yield f"{len(failing)} of {POINTS} points drawn from the space are not valid and would fail, e.g. {_shown(point)}: {error}"


def _may_end_by_trials(sweep: Sweep) -> bool:
    """Whether a trunk search may have no trial left while it has tokens."""
    trials, tokens = sweep.config.budget.trials, sweep.config.budget.tokens
    return trials is not None and (tokens is None or trials * sweep.largest_trial_tokens < TRIALS_OF_A_RUN * tokens)


def _check_rungs(sweep: Sweep) -> None:
    """A trunk search compares runs of several lengths, which must have their beginnings in common."""
    search = sweep.config.search
    if search.name != "trunk":
        return
    if not trains(sweep.base.config.trainer):
        raise InputError("search.name=trunk: not with trainer.max_steps=0, there is no trunk to share; valid: tpe, gp, random, qmc, grid")
    if sweep.config.objective.also:
        raise InputError(
            "search.name=trunk: takes one objective, with constraints for the others; valid for several: tpe, gp, random, qmc, grid"
        )
    if sweep.config.stopping.name != "none":
        raise InputError(f"stopping={sweep.config.stopping.name}: not beside search=trunk, whose rungs give trials up; valid: none")
    if sweep.base.config.trainer.max_epochs is not None:
        raise InputError(
            f"trainer.max_epochs={sweep.base.config.trainer.max_epochs}: not with search=trunk, whose runs are each of a length of its own "
            "(search.rungs); valid: trainer.max_tokens or trainer.max_steps, the longest"
        )
    for parameter in sweep.space.parameters:
        if parameter.key in ("trainer.max_tokens", "trainer.max_steps", "trainer.max_epochs"):
            raise InputError(f"space.{parameter.key}: search=trunk chooses the length of each run itself (search.rungs); leave it out")
    warmups = [value for parameter in sweep.space.parameters if parameter.key == "schedule.warmup" for value in parameter.extremes]
    for value in warmups or [sweep.base.config.schedule.warmup]:
        if parse_length("schedule.warmup", value).unit == "fraction":
            problem = "with search=trunk a share of the run would differ from rung to rung, and nothing could be shared"
            raise wrong_value("schedule.warmup", value, f'{problem}; give steps (100) or tokens ("2e6 tokens")')
    shortest = _shortest(sweep)
    try:
        sweep.trial_config(shortest)
    except InputError as error:
        raise InputError(f"search.rungs={search.rungs}: the shortest runs, {_shown(shortest)}, are not valid: {error}") from None


def _check_readers(sweep: Sweep) -> None:
    """A parameter that only some kinds read must be conditional on them."""
    for parameter in sweep.space.parameters:
        item = None if parameter.is_group else find(Config, parameter.key)
        if item is None or not item.only_for:
            continue
        group, readers = item.deciding_group(parameter.key), ", ".join(item.only_for)
        chooser = next((other.key for other in sweep.space.parameters if other.key in (group, f"{group}.name")), None)
        if chooser is None:
            kind = getattr(sweep.base.config, group).name
            if kind not in item.only_for:
                raise InputError(f"space.{parameter.key}: not read by {kind}, only by {readers}; the base has {group}.name={kind}")
            continue
        choices = sweep.space.conditions(parameter.key).get(chooser, sweep.space[chooser].choices)
        # A choice of a group may bear another name than the kind that it sets.
        fitting = [str(choice) for choice in choices if _kind(sweep, group, chooser, choice) in item.only_for]
        idle = [str(choice) for choice in choices if str(choice) not in fitting]
        if idle and not fitting:
            raise InputError(f"space.{parameter.key}: read only by {readers}, and {chooser} is never one of them")
        if idle:
            hint = f"add when: {{{chooser}: {fitting[0] if len(fitting) == 1 else '[' + ', '.join(fitting) + ']'}}}"
            raise InputError(f"space.{parameter.key}: not read by {', '.join(idle)}, only by {readers}; {hint}")


def _kind(sweep: Sweep, group: str, chooser: str, choice: Any) -> Any:
    return getattr(sweep.composed([f"{group}={choice}"]).config, group).name if chooser == group else choice


def _check_probes(sweep: Sweep) -> None:
    """Validate the base with every choice, every end of every range and values inside it, each alone; with ends and choices beside each
    choice of a group; and points drawn from the whole space: what is out of range is found before the start. With search=trunk at the
    length of its shortest runs, too."""
    shortest = _shortest(sweep)
    for parameter in sweep.space.parameters:
        beside = (params for other in sweep.space.parameters if other.is_group for params in sweep.probes_beside(other, parameter))
        refused: list[tuple[dict[str, Any], InputError]] = []
        fits: list[Any] = []
        for params in (*sweep.probes(parameter, parameter.representatives), *beside):
            try:
                sweep.trial_config(params)
                params = {**params, **shortest}
                sweep.trial_config(params)
                fits.append(params[parameter.key])
            except InputError as error:
                refused.append((params, error))
        if refused:
            params, why = refused[0]
            inside = list(dict.fromkeys(value for value in fits if all(value != other[parameter.key] for other, _ in refused)))
            hint = (
                f"; give choices, of those tried valid are {', '.join(map(str, sorted(inside)))}" if parameter.is_integer and inside else ""
            )
            raise InputError(f"space.{parameter.key}: {_shown(params)} is not valid: {why}{hint}")
    failing = _failing_points(sweep)
    if len(failing) == POINTS:
        point, why = failing[0]
        raise InputError(f"space: none of {POINTS} points drawn from it is valid, e.g. {_shown(point)}: {why}")


def _shortest(sweep: Sweep) -> dict[str, Any]:
    """The length of a trunk search's shortest runs, as a parameter; {} of other searches."""
    if sweep.config.search.name != "trunk":
        return {}
    rungs = rungs_of(sweep, LateParameters(sweep))
    return {rungs.length_key: rungs.lengths[0]}


def _failing_points(sweep: Sweep) -> list[tuple[dict[str, Any], InputError]]:
    """Those of some points drawn from the space that make no valid configuration, and why."""
    failing, shortest = [], _shortest(sweep)
    for point in sweep.points(POINTS):
        try:
            sweep.trial_config(point)
            point = {**point, **shortest}
            sweep.trial_config(point)
        except InputError as error:
            failing.append((point, error))
    return failing


def _shown(point: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in point.items())


def _check_stopping(sweep: Sweep) -> None:
    """Whoever is to give up trials must see them before their end."""
    stopping, objective = sweep.config.stopping, sweep.config.objective
    if stopping.name != "none" and objective.also:
        raise InputError(
            f"stopping={stopping.name}: trials cannot be compared before their end where there are several objectives (Optuna #3450); "
            "give one objective with constraints, or stopping: {constraint_patience: …}, which looks at constraints alone"
        )
    if stopping.constraint_patience is not None and not sweep.config.constraints:
        raise InputError(f"stopping.constraint_patience={stopping.constraint_patience}: there are no constraints to break")
    watched = [] if stopping.name == "none" else [("objective.metric", objective.metric)]
    watched += [("constraints", metric) for metric in sweep.config.constraints if stopping.constraint_patience is not None]
    what = f"stopping={stopping.name}" if stopping.name != "none" else "stopping.constraint_patience"
    if watched and not trains(sweep.base.config.trainer):
        raise InputError(f"{what}: not with trainer.max_steps=0, where each trial is evaluated once; leave it out")
    key = "trainer.evaluate_every_steps"
    evaluated = sweep.base.config.trainer.evaluate_every_steps is not None or any(p.key == key for p in sweep.space.parameters)
    if watched and not evaluated:
        raise InputError(f"{what}: no trial is evaluated before its end; set {key}, e.g. base: [{key}=50]")
    for where, metric in watched:
        section, measured = logging_set(sweep.base.config.data, metric) or ("", None)
        every, rarely = getattr(measured, "every_evaluations", 1), f"{section}.every_evaluations"
        if (every is None or every > max(1, sweep.evaluations)) and not any(p.key == rarely for p in sweep.space.parameters):
            often = "null" if every is None else every
            named = f"{where}={metric}" if where == "objective.metric" else f"{where}: {metric}"
            problem = f"{named} is not measured before a trial's end, of whose evaluations there are {sweep.evaluations}"
            raise InputError(f"{what}: {rarely}={often}: {problem}; valid: base: [{rarely}=1], or a larger number up to them")


def _check_time(budget: BudgetConfig, devices: int) -> None:
    """The time that a trial needs at the least fits. devices: what an attempt holds."""
    for unit, held in (("gpu_hours", devices), ("wall_hours", 1), ("trial_hours", 1)):
        hours, shortest = getattr(budget, unit), held * SHORTEST_SECONDS / HOUR
        of = f" of {held} devices" if held > 1 else ""
        if hours is None:
            continue
        if hours < shortest:
            problem = f"less than {SHORTEST_SECONDS:.0f} seconds{of}, no trial could start (>= {shortest:.4f})"
            raise InputError(f"budget.{unit}={hours}: {problem}")
        if budget.trial_hours is not None and budget.trial_hours * held > hours:
            raise InputError(f"budget.trial_hours={budget.trial_hours}: exceeds {unit}={hours}{of}, no trial could start")
