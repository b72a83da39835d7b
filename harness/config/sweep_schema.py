"""The configuration of a sweep: the file that defines a study."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from harness.config.schema import Count, Name, Section


@dataclass(kw_only=True)
class StudyObjectiveConfig(Section):
    """What the study looks for."""

    metric: Name
    """A logged metric, e.g. val/docs/loss; its last value counts."""
    direction: Literal["minimize", "maximize"] = "minimize"
    """Which way is better."""


@dataclass(kw_only=True)
class BoundConfig(Section):
    """A constraint on a logged metric; trials that break it are never the best."""

    max: float | None = None
    """The metric may not exceed this."""
    min: float | None = None
    """The metric may not fall below this."""


@dataclass(kw_only=True)
class SearchConfig(Section):
    """How points of the space are proposed."""

    name: Literal["tpe", "random"] = "tpe"
    """tpe: Optuna's multivariate tree-structured Parzen estimator, aware of constraints and of trials under way; random: independent."""
    seed: int = 0
    """Seed of the sampler: proposal n is a function of this, n and the results so far."""
    startup_trials: Count = 10
    """Random trials before tpe starts to model."""
    max_attempts: Count = 3
    """A trial whose process crashes or is killed this often is failed."""
    max_failures: Count = 3
    """When this many trials have failed for the same reason and none is complete, no further one starts."""


@dataclass(kw_only=True)
class BudgetConfig(Section):
    """Hard limits of a study over all workers, attempts and work under way; at least one."""

    trials: Count | None = None
    """Trials started."""
    tokens: Count | None = None
    """Tokens trained, padding not counted: reserved before a trial starts, settled when it ends."""


@dataclass(kw_only=True)
class LauncherConfig(Section):
    """Where the workers run."""

    name: Literal["local"] = "local"
    """local: processes on this machine."""
    workers: Count = 2
    """How many trials run at a time; the machine's cores are shared out among them."""


@dataclass(kw_only=True)
class SweepConfig(Section):
    """A sweep file: one question."""

    base: list[str] = field(default_factory=list)
    """Overrides that every trial starts from, e.g. [experiment=quickstart, trainer.max_tokens=2e6]."""
    objective: StudyObjectiveConfig
    constraints: dict[str, BoundConfig] = field(default_factory=dict)
    """By metric: {val/general/forgetting: {max: 0.25}}"""
    space: dict[str, Any] = field(default_factory=dict)
    """By configuration key or group: {low, high, log, step} or {choices: […]}, with when: {key: value} for conditional ones."""
    search: SearchConfig = field(default_factory=SearchConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    launcher: LauncherConfig = field(default_factory=LauncherConfig)
    storage: str | None = None
    """Where Optuna's record and the locks are: null for journal.log in the study's directory (workers of one machine), or
    postgresql://user@host/database, for which workers of many machines need a shared directory besides. It takes the extra
    harness[postgresql] and a connection that is not shared by a pooler. Passwords come from ~/.pgpass or PGPASSWORD; one in the address is
    not stored."""
