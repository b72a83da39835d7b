"""The configuration of a sweep: the file that defines a study."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Lt

from harness.config.launcher_schema import LauncherConfig
from harness.config.schema import Count, Name, OnlyFor, Positive, Section


@dataclass(kw_only=True)
class StudyObjectiveConfig(Section):
    """What the study looks for. A list asks for the Pareto front: the first objective ranks trials, the others stand in `also`."""

    metric: Name
    """A logged metric, e.g. val/docs/loss; its last value counts."""
    direction: Literal["minimize", "maximize"] = "minimize"
    """Which way is better."""
    also: list[StudyObjectiveConfig] = field(default_factory=list)
    """Further objectives, each with metric and direction; `objective: [A, B]` is the same as A with `also: [B]`."""


@dataclass(kw_only=True)
class BoundConfig(Section):
    """A constraint on a logged metric; trials that break it are never the best."""

    max: float | None = None
    """The metric may not exceed this."""
    min: float | None = None
    """The metric may not fall below this."""
    chance: Annotated[float, Ge(0.5), Lt(1)] | None = None
    """How likely the winner of a confirmation has to meet the bound with a fresh seed, e.g. 0.9; null: its mean over the seeds has to."""


@dataclass(kw_only=True)
class SearchConfig(Section):
    """How points of the space are proposed."""

    name: Literal["tpe", "random", "qmc", "gp", "cmaes", "grid", "trunk"] = "tpe"
    """tpe: Optuna's multivariate tree-structured Parzen estimator, aware of constraints and of trials under way; random: independent;
    qmc: scrambled Sobol' points; gp: Gaussian process, and from trial 500 on tpe, since its proposals would take seconds; cmaes: covariance
    matrix adaptation; grid: every combination once, then the study ends; trunk: short runs first, the best of which go on along their
    trunks, see rungs. All take conditional parameters; gp and cmaes model only those that are always active (cmaes: only ranges and ordered
    choices among them) and draw the others at random."""
    seed: int = 0
    """Seed of the sampler: proposal n is a function of this, n and the results so far."""
    startup_trials: Count = 10
    """Trials that must have ended before tpe, gp and cmaes start to model: drawn at random, or from `prior`."""
    arms: Name | None = None
    """A parameter of choices whose values are to be compared, e.g. sampling: each of them gets the same number of trials, in turn, and the
    others are proposed by what trials with the same value found. budget.trials is a multiple of their number. null: the sampler spends its
    trials where it expects most, and starves the rest."""
    grid_values: Annotated[int, Ge(2), OnlyFor(("grid",))] = 5
    """How many values of a range without a step the grid takes, its ends among them; evenly spaced, on a log scale where it has one."""
    sampler: Annotated[Literal["joint", "tpe", "random", "qmc", "gp"], OnlyFor(("trunk",))] = "joint"
    """What proposes new trunks. joint: a Gaussian process over parameters and lengths, which learns from all rungs at once; what goes on
    it chooses, too, by expected improvement at full length within the constraints, for the tokens that it costs. The others learn from one
    rung, and of each rung the best 1/reduction_factor go on."""
    rungs: Annotated[int, Ge(1), OnlyFor(("trunk",))] = 3
    """Lengths of runs, the longest being that of the base (trainer.max_tokens or max_steps). Each is a finished run, decayed to its end.
    The warm-up must be in steps or tokens: a share of the run would differ from rung to rung."""
    reduction_factor: Annotated[int, Ge(2), OnlyFor(("trunk",))] = 3
    """By what a rung is longer than the one before; and one in this many of its trials goes on to the next."""
    branches: Annotated[int, Ge(0), OnlyFor(("trunk",))] = 4
    """How often the decay of the best trunk is varied at full length."""
    warm_start: list[Any] | str = field(default_factory=list)
    """Points to try first: {optim.lr: 1e-3, schedule: wsd} (parameters left out are drawn at random), study:NAME or study:NAME:K (the best
    or the K best of another study), best/NAME (a recipe, from which the prior is taken as well), baselines (what a merge has to beat: each
    ingredient alone, their mean, and single scales; what steering has to beat: the choices of adapter.control). One of them, or a list.
    Given values must lie in the space; those of other studies and recipes are moved to its nearest end, and that is said."""
    prior: dict[str, Any] | Literal["scaling", "earlier", "none"] = field(default_factory=dict)
    """Where the first startup_trials are drawn from, by parameter: {optim.lr: {mean: 1e-3, spread: 3}}: a normal distribution within the
    range, on a log scale one of log values, whose spread is a factor, and of choices with ordered: true one of their places. Of other
    ranges, where warm_start names recipes that searched them, too: around the values that they chose, as wide as their best trials lie
    apart. scaling: of the learning rate that a power law predicts from scaling_studies. earlier: of every range on a log scale,
    what all studies and recipes at hand, or scaling_studies, say by power laws of the model's size and the tokens; the prediction is tried
    first, then its neighbours, then where these move the optimum. none: none, not of the recipes either."""
    scaling_studies: list[str] = field(default_factory=list)
    """Earlier studies or recipes (best/NAME), of other sizes and lengths, whose best learning rates the power law of `prior: scaling` is
    fitted to; with `prior: earlier` those that it is to go by, rather than all."""
    max_attempts: Count = 3
    """A trial whose process crashes or is killed this often is failed."""
    out_of_memory: Literal["fail", "halve_micro_batch"] = "fail"
    """What becomes of a trial for which the memory of the host or the device does not suffice. fail: it is failed with that reason, and the
    study goes on; halve_micro_batch: it is tried again with half of trainer.micro_batch_size, down to one row, from its last checkpoint.
    Its batch stays the same, and its objective with it, up to the order of sums."""
    max_failures: Count = 3
    """When this many trials have failed for reasons of one kind and none is complete, no further one starts; nor, later on, after 30 times
    as many in a row."""
    confirm: bool | None = None
    """Whether the study spends a part of its budget on running its best over fresh seeds, and ends with a confirmed winner or with the word
    that there is none. Which trial gets the next seed follows from what was found so far. null: with search=trunk, where the budget holds
    it."""
    trunks: Literal["auto", "always", "never"] = "auto"
    """Whether trials keep states of training for others to go on from, under <study>/trunks. auto: where trials will meet, that is, where
    the other parameters are no continuous ranges. What is found there is used in any case."""
    trunk_disk_gb: Positive = 20.0
    """What these may take on the disk; the ones that were of use longest ago go first."""


@dataclass(kw_only=True)
class StoppingConfig(Section):
    """When a trial is given up before its end: it is `pruned`, with its reason, and has cost what it trained.

    Trials are compared at the same evaluation (the first, the second, …), so that trainer.evaluate_every_steps must be set; of
    a set under data.generation that they are given up by, every_evaluations, too.
    """

    name: Literal["none", "median", "successive_halving", "hyperband"] = "none"
    """none: never; median: worse than the median of those before it; successive_halving: not among the best 1/reduction_factor that reached
    a rung (asynchronous: ASHA); hyperband: brackets of successive halving that begin at different rungs."""
    startup_trials: Annotated[Count, OnlyFor(("median",))] = 5
    """Trials that must be complete before any is given up."""
    warmup_evaluations: Annotated[int, Ge(0), OnlyFor(("median",))] = 2
    """No trial is given up before it has had more than this many evaluations."""
    first_rung: Annotated[Count, OnlyFor(("successive_halving", "hyperband"))] = 1
    """The evaluation of the first rung; each further one lies reduction_factor times as far."""
    reduction_factor: Annotated[int, Ge(2), OnlyFor(("successive_halving", "hyperband"))] = 3
    """At each rung one trial in this many goes on."""
    constraint_patience: Count | None = None
    """Whatever the name: give a trial up when it has broken one constraint at this many evaluations in a row (of those
    that measure it); null: never."""


@dataclass(kw_only=True)
class BudgetConfig(Section):
    """Hard limits of a study over all workers, attempts and work under way; at least one, unless a grid ends by itself."""

    trials: Count | None = None
    """Trials started."""
    tokens: Count | None = None
    """Tokens trained, padding not counted: reserved before a trial starts, settled when it ends."""
    gpu_hours: Positive | None = None
    """Hours for which trials hold devices: the wall time of their attempts, from start to end of the process, times the devices of each; a
    run on CPUs holds one."""
    wall_hours: Positive | None = None
    """Hours in which at least one trial was under way; the time that a stopped study rests is not counted."""
    trial_hours: Positive | None = None
    """Wall time of one trial over all its attempts: one that needs more is failed. It is also what is reserved of gpu_hours and wall_hours
    before a trial starts; null: what a run of its length should need by the slowest so far, with a margin."""


@dataclass(kw_only=True)
class SweepConfig(Section):
    """A sweep file: one question."""

    base: list[str] = field(default_factory=list)
    """Overrides that every trial starts from, e.g. [experiment=quickstart, trainer.max_tokens=2e6]."""
    objective: StudyObjectiveConfig
    constraints: dict[str, BoundConfig] = field(default_factory=dict)
    """By metric: {val/general/forgetting: {max: 0.25}}"""
    space: dict[str, Any] = field(default_factory=dict)
    """By configuration key or group: {low, high, log, step, multiple_of} or {choices: […], ordered: true}, with when: {key: value} for
    conditional ones. What lies between is moved to the nearest multiple of multiple_of; of batch and widths also of what they have to be
    multiples of (data.context_length, model.heads, …), searched or not. ordered: models learn from neighbours in the order given. A * is
    every entry of a mapping: model.merge.ingredients.*.weight."""
    search: SearchConfig = field(default_factory=SearchConfig)
    stopping: StoppingConfig = field(default_factory=StoppingConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    launcher: LauncherConfig = field(default_factory=LauncherConfig)
    storage: str | None = None
    """Where Optuna's record and the locks are: null for journal.log in the study's directory (workers of one machine), or
    postgresql://user@host/database, for which workers of many machines need a shared directory besides. It takes the extra
    harness[postgresql] and a connection that is not shared by a pooler. Passwords come from ~/.pgpass or PGPASSWORD; one in the address is
    not stored."""
