"""What `harness evaluate` evaluates: a model, or the weights that a run ended with, in a run that trains nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.checks import check
from harness.config.checks.trainer import trains
from harness.config.compose import compose
from harness.config.errors import InputError
from harness.config.load import load
from harness.config.locations import in_home
from harness.config.overrides import GroupOverride, Override, hydra_text, parse
from harness.config.schema import Config
from harness.runs.directory import RunDirectory, run_called, study_called
from harness.runs.run_config import load_run_config

NOTHING_TRAINED = "trainer.max_steps=0"
A_MODEL = "model.path="
"""Before a word that means a model, whatever runs and studies are called."""


@dataclass(frozen=True)
class Evaluation:
    """A run that evaluates something."""

    config: Config
    label: str
    """What it evaluates, for the name of its directory."""


def evaluation_of(
    what: str, overrides: list[str], *, checked_by: Callable[[Config], None] = check, of_a_model: Sequence[str] = ()
) -> Evaluation:
    """The run that evaluates `what`: a run (its directory, its name, STUDY/NUMBER), else a model's directory or hub name.

    A run is evaluated as it was configured, on its own evaluation sets; overrides add to them or replace them. A model takes them from the
    overrides, or from the experiment that they choose. checked_by: what the keys must agree on; of_a_model: what is said of a
    model before them.
    Raises InputError for what cannot be evaluated.
    """
    run = run_of(what)
    if run is not None:
        # A run that trained nothing evaluates the model that it started from.
        has_trained = trains(load_run_config(run, checked_by=lambda config: None).trainer)
        weights = [f"model.checkpoint={hydra_text(str(run.path.resolve()))}"] if has_trained else []
        config = load_run_config(run, [*weights, *_of_values(overrides), NOTHING_TRAINED], checked_by=checked_by)
        return Evaluation(config, f"evaluate-{run.name.replace('/', '-')}")
    what = what.removeprefix(A_MODEL)
    experiment = [] if _chooses_experiment(overrides) else ["experiment=evaluate"]
    loaded = load([*experiment, f"model.path={hydra_text(what)}", *of_a_model, *overrides, NOTHING_TRAINED], checked_by=checked_by)
    return Evaluation(loaded.config, f"evaluate-{Path(what).name}")


def start_of(run: RunDirectory, overrides: list[str], *, checked_by: Callable[[Config], None]) -> Config:
    """The run that evaluates what a run started from, in place of what it made of it; otherwise as `evaluation_of`."""
    return load_run_config(run, [*_of_values(overrides), NOTHING_TRAINED], checked_by=checked_by)


def run_of(what: str) -> RunDirectory | None:
    """The run of this name; None where the word means a model. Raises InputError for a study's name, which is neither."""
    if what.startswith(A_MODEL) or (in_home(what) / "config.json").is_file():
        return None
    run = run_called(what)
    if run is None and study_called(what) is not None:
        raise InputError(
            f"{what} is a study; valid: one of its trials, {what}/NUMBER (harness best {what} says which), a run, a model "
            f"(the hub's of that name: {A_MODEL}{what})"
        )
    return run


def _chooses_experiment(overrides: list[str]) -> bool:
    return any(isinstance(one, GroupOverride) and one.group == "experiment" for one in parse(overrides, Config))


def _of_values(overrides: list[str]) -> list[str]:
    """The overrides with sampling=CHOICE as values: how a run samples is no part of what it trained, and may be chosen anew as a whole."""
    chosen = [text for text, one in zip(overrides, parse(overrides, Config), strict=True) if _chooses_sampling(one)]
    values = compose("config", Config, chosen).values["sampling"] if chosen else {}
    return [*(f"sampling.{key}={hydra_text(value)}" for key, value in values.items()), *(text for text in overrides if text not in chosen)]


def _chooses_sampling(override: Override) -> bool:
    return isinstance(override, GroupOverride) and override.group == "sampling"
