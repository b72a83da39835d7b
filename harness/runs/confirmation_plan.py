"""confirmation.json: which trials of a study are run again, over which seeds.

The runs are trials of a small study of their own, runs/<study>-confirm. Its trial n is the n-th entry of `runs`, and entries are only ever
added. `harness confirm` gives every candidate every seed; a study with search.confirm gives seeds where they change the decision.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import chain, product
from pathlib import Path
from typing import Any

from harness.config.documents import DamagedError, typed
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.files import read_json, write_json

SUFFIX = "-confirm"
RUN = "{run}"
"""What stands for a run in the word for an ingredient of a merge."""


@dataclass(frozen=True)
class ConfirmationPlan:
    """confirmation.json."""

    study: str
    """The name of the study that is confirmed."""
    launched: str | None
    """When that study was launched: another one of the same name is another study."""
    first_seed: int
    runs: list[dict[str, int]]
    """By trial of the confirmation: {candidate: number of the trial of the study, seed: …}. A candidate begins with the first seed, and has
    the others in their order."""
    charged: list[int] = field(default_factory=list)
    """Those of them, by their place, that the budget of the study pays for; the others were asked for by `harness confirm`."""
    retrained: dict[str, str] = field(default_factory=dict)
    """Of a merge, the ingredients that are trained again for each seed: by name their word, {run} standing for the new run."""

    @property
    def candidates(self) -> list[int]:
        return list(dict.fromkeys(run["candidate"] for run in self.runs))

    @property
    def seeds(self) -> list[int]:
        return sorted({run["seed"] for run in self.runs})


def confirmation_directory(study: StudyDirectory) -> StudyDirectory:
    """Where the confirmation of a study is, or would be: beside it."""
    return StudyDirectory(study.path.parent / (study.path.name + SUFFIX))


def ingredient_run(confirmation: StudyDirectory, name: str, seed: int) -> RunDirectory:
    """Where an ingredient is trained again for a seed of the confirmation."""
    return RunDirectory(confirmation.path / "ingredients" / f"{name}-seed-{seed}")


def ingredient_runs(study: StudyDirectory) -> list[RunDirectory]:
    """Where all ingredients are trained again; none for a study that is no confirmation, or retrains nothing. Raises DamagedError."""
    plan = read_plan(study)
    return [] if plan is None else [ingredient_run(study, name, seed) for seed in plan.seeds for name in plan.retrained]


def _plan_file(confirmation: StudyDirectory) -> Path:
    return confirmation.path / "confirmation.json"


def plan_of(text: object) -> ConfirmationPlan | None:
    """A plan that W&B holds as JSON; None where that is no plan. (What W&B holds may be of another version, or a stranger's.)"""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(ConfirmationPlan).validate_json(text) if isinstance(text, str) else None
    except ValidationError:
        return None


def read_plan(confirmation: StudyDirectory) -> ConfirmationPlan | None:
    """The plan in this study's directory; None where the study is no confirmation. Raises DamagedError."""
    path = _plan_file(confirmation)
    document = read_json(path)
    if not document:
        return None
    plan: ConfirmationPlan = typed(ConfirmationPlan, document, path)
    runs = [(run.get("candidate"), run.get("seed")) for run in plan.runs]
    if (None in chain(*runs)) or (not plan.charged and sorted(runs) != sorted(product(plan.candidates, plan.seeds))):
        raise DamagedError(path, "its runs are not every candidate with every seed")
    if len(set(runs)) < len(runs) or not set(plan.charged) <= set(range(len(runs))):
        raise DamagedError(path, "a run stands there twice, or one is charged that is not there")
    return plan


def write_plan(confirmation: StudyDirectory, plan: ConfirmationPlan) -> None:
    write_json(_plan_file(confirmation), asdict(plan))


def launch_of(sweep: dict[str, Any]) -> str | None:
    """When a study was launched, by its sweep.yaml."""
    return None if sweep.get("launched") is None else str(sweep["launched"])
