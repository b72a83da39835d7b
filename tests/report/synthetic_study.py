"""Studies as a real sweep leaves them on disk, with a planted truth: the learning rate decides, packing hardly matters."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.files import read_yaml, write_yaml
from harness.runs.metrics import last_values
from harness.runs.result import Result, State, Tokens, write_result
from harness.runs.trial import Trial, write_trial

STEPS = 120
BATCH_TOKENS = 16_384
SWEEP: dict[str, Any] = {
    "base": ["experiment=cpt_python"],
    "objective": {"metric": "val/python/loss", "direction": "minimize"},
    "constraints": {"val/english/forgetting": {"max": 0.3}},
    "space": {
        "optim.lr": {"low": 1e-4, "high": 3e-2, "log": True},
        "schedule": {"choices": ["cosine", "linear", "wsd"]},
        "schedule.decay_fraction": {"low": 0.05, "high": 0.5, "when": {"schedule": "wsd"}},
        "data.packing": {"choices": ["best_fit", "concat", "padded"]},
        "data.replay_share": {"low": 0.0, "high": 0.5, "step": 0.05},
    },
    "search": {"name": "tpe"},
    "budget": {"trials": 32, "tokens": 64_000_000},
}


def draw(random_: random.Random) -> dict[str, Any]:
    """A point of the space."""
    params: dict[str, Any] = {
        "optim.lr": 10 ** random_.uniform(-4, math.log10(3e-2)),
        "schedule": random_.choice(["cosine", "linear", "wsd"]),
        "data.packing": random_.choice(["best_fit", "concat", "padded"]),
        "data.replay_share": round(random_.randint(0, 10) * 0.05, 2),
    }
    if params["schedule"] == "wsd":
        params["schedule.decay_fraction"] = random_.uniform(0.05, 0.5)
    return params


def rate(params: dict[str, Any], progress: float) -> float:
    """The learning rate after this share of the run."""
    if progress < 0.1:
        return float(params["optim.lr"] * progress / 0.1)
    match params["schedule"]:
        case "cosine":
            share = 0.5 * (1 + math.cos(math.pi * (progress - 0.1) / 0.9))
        case "linear":
            share = (1 - progress) / 0.9
        case _:
            share = min(1.0, (1 - progress) / params["schedule.decay_fraction"])
    return float(params["optim.lr"] * share)


def curves(params: dict[str, Any], random_: random.Random, steps: int = STEPS) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl: a rate near 4e-3 learns most, a high one forgets most, replay helps against forgetting."""
    off = abs(math.log10(params["optim.lr"] / 4e-3))
    by_schedule = {"cosine": 0.02, "linear": 0.0, "wsd": 0.01}[params["schedule"]]
    final = 2.35 + 0.35 * off**2 + 0.15 * params["data.replay_share"] ** 2 + by_schedule
    forgotten = 0.12 + 9 * params["optim.lr"] * (1.1 - params["data.replay_share"])
    rows = []
    for step in range(0, steps + 1, 2):
        progress = step / STEPS
        learned = (1 - math.exp(-5 * progress)) / (1 - math.exp(-5))
        loss = 4.1 - (4.1 - final) * learned
        row: dict[str, Any] = {"step": step, "tokens": step * BATCH_TOKENS, "lr": rate(params, progress)}
        if step:
            row["train/loss"] = loss + random_.gauss(0, 0.03)
        if step % 20 == 0:
            row["val/python/loss"] = loss + random_.gauss(0, 0.004)
            row["val/english/forgetting"] = forgotten * learned**0.7
            row["val/english/loss"] = 3.2 + row["val/english/forgetting"]
        rows.append(row)
    return rows


def write_study(
    root: Path, *, name: str = "cpt_python", trials: int = 16, sweep: dict[str, Any] | None = None, states: dict[int, State] | None = None
) -> StudyDirectory:
    """A study of `trials` trials; `states` names those that are not complete. Overwrite a sweep's keys by `sweep`."""
    study = StudyDirectory(root / name)
    write_yaml(study.sweep, {**SWEEP, **(sweep or {})})
    random_ = random.Random(7)
    trunk: str | None = None
    for number in range(trials):
        run = write_trial_run(study, number, draw(random_), random_, (states or {}).get(number, "complete"), trunk=trunk)
        # Trials of a schedule with a stable phase go on from the trunk of the one before.
        if run.config.exists() and read_yaml(run.config)["schedule"]["name"] == "wsd":
            trunk = run.name
    return study


def write_trial_run(
    study: StudyDirectory,
    number: int,
    params: dict[str, Any],
    random_: random.Random,
    state: State = "complete",
    *,
    trunk: str | None = None,
) -> RunDirectory:
    """trunk: the run that has trained the first third of its stable phase."""
    run = study.trial(number)
    run.path.mkdir(parents=True)
    write_trial(run, Trial(number=number, params=params, tokens=STEPS * BATCH_TOKENS, worker="node3.1"))
    if state != "waiting":
        write_run(run, params, random_, state, judged=True, trunk=trunk)
    return run


def write_run(
    run: RunDirectory,
    params: dict[str, Any],
    random_: random.Random,
    state: State = "complete",
    *,
    judged: bool = False,
    trunk: str | None = None,
) -> RunDirectory:
    """A run's files; `judged` ones have the objective and feasibility of the study."""
    run.path.mkdir(parents=True, exist_ok=True)
    write_yaml(run.config, config(params))
    rows = curves(params, random_, {"complete": STEPS, "pruned": 40}.get(state, 20))
    for row in rows:
        run.metrics.append(row)
    metrics = last_values(rows)
    complete = judged and state == "complete"
    shared = 40 * BATCH_TOKENS if params["schedule"] == "wsd" and trunk else 0
    result = Result(
        state=state,
        reason="the loss is not finite at step 21" if state == "failed" else None,
        objective=metrics["val/python/loss"] if complete else None,
        feasible=metrics["val/english/forgetting"] <= 0.3 if complete else None,
        metrics=metrics,
        step=rows[-1]["step"],
        tokens=Tokens(trained=rows[-1]["tokens"] - min(shared, rows[-1]["tokens"]), shared=shared, budgeted=STEPS * BATCH_TOKENS - shared),
        shared_from=trunk if shared else None,
        seconds=rows[-1]["step"] * 1.4,
        attempts=1 + (state == "failed"),
    )
    write_result(run, result)
    return run


def config(params: dict[str, Any]) -> dict[str, Any]:
    return {
        "seed": 0,
        "data": {"packing": params["data.packing"], "replay_share": params["data.replay_share"]},
        "optim": {"name": "adamw", "lr": params["optim.lr"], "betas": [0.9, 0.95]},
        "schedule": {"name": params["schedule"], "decay_fraction": params.get("schedule.decay_fraction", 0.2)},
    }
