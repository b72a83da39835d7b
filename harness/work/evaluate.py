"""What `harness evaluate` evaluates: a model, or the weights that a run ended with, in a run that trains nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.config.checks.trainer import trains
from harness.config.load import load, load_file
from harness.config.overrides import GroupOverride, parse
from harness.config.private import hydra_text
from harness.config.schema import Config
from harness.runs.directory import RunDirectory, run_called

NOTHING_TRAINED = "trainer.max_steps=0"


@dataclass(frozen=True)
class Evaluation:
    """A run that evaluates something."""

    config: Config
    label: str
    """What it evaluates, for the name of its directory."""


def evaluation_of(what: str, overrides: list[str]) -> Evaluation:
    """The run that evaluates `what`: a run (its directory, its name, STUDY/NUMBER), else a model's directory or hub name.

    A run is evaluated as it was configured, on its own evaluation sets; overrides add to them or replace them. A model takes them from the
    overrides, or from the experiment that they choose.
    Raises InputError for what cannot be evaluated.
    """
    run = _run(what)
    if run is not None:
        # A run that trained nothing evaluates the model that it started from.
        weights = [f"model.checkpoint={hydra_text(str(run.path.resolve()))}"] if trains(load_file(run.config).trainer) else []
        config = load_file(run.config, [*weights, *overrides, NOTHING_TRAINED])
        return Evaluation(config, f"evaluate-{run.name.replace('/', '-')}")
    experiment = [] if _chooses_experiment(overrides) else ["experiment=evaluate"]
    loaded = load([*experiment, f"model.path={hydra_text(what)}", *overrides, NOTHING_TRAINED])
    return Evaluation(loaded.config, f"evaluate-{Path(what).name}")


def _run(what: str) -> RunDirectory | None:
    """The run of this name; None where the word means a model."""
    if (Path(what).expanduser() / "config.json").is_file():
        return None
    return run_called(what)


def _chooses_experiment(overrides: list[str]) -> bool:
    return any(isinstance(one, GroupOverride) and one.group == "experiment" for one in parse(overrides, Config))
