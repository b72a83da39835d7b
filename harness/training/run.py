"""One run, from its configuration to its result: the only way in to training."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger

from harness.config.errors import InputError
from harness.config.schema import Config
from harness.data.mixture import Progress, build_training_data, build_validation_data
from harness.models.isolation import refuse_leaking_model
from harness.models.language_model import build_model, model_fingerprint
from harness.models.tokenizer import load_tokenizer, tokenizer_fingerprint
from harness.runs.directory import RunDirectory
from harness.runs.metrics import last_values
from harness.runs.result import Result, read_result, write_result
from harness.training import checkpoints, provenance
from harness.training.module import build_module
from harness.training.plan import build_plan
from harness.training.step_end import StepEnd
from harness.training.stop import StopFlag
from harness.training.trainer import RunData, build_trainer


def train(
    config: Config,
    run: RunDirectory,
    *,
    stop: StopFlag,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[Callback] = (),
    progress: Progress | None = None,
) -> Result:
    """Start `run`, or go on from its last checkpoint, until its end or until `stop` is set.

    The result is returned, and stands in result.json from the first moment on: state complete at the end, waiting when it was stopped.
    The caller holds the run's attempt lock. `progress` is told about tokenization.

    Raises InputError for data or a model that cannot be used, NonFiniteLossError when training diverges.
    """
    began = time.perf_counter()
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    result = read_result(run)
    result.state, result.reason, result.attempts = "running", None, result.attempts + 1
    result.versions, result.git_commit, result.hardware = provenance.versions(), provenance.git_commit(), provenance.hardware()
    write_result(run, result)

    tokenizer = load_tokenizer(config)
    data = build_training_data(config.data, tokenizer, seed=config.seed, progress=progress, objective=config.objective.name)
    validation = build_validation_data(config.data, tokenizer, progress=progress, objective=config.objective.name)
    plan = build_plan(config, data, world_size=config.trainer.devices)
    fingerprints = {"data": data.fingerprint, "tokenizer": tokenizer_fingerprint(tokenizer), "model": model_fingerprint(config.model)}
    _refuse_other_inputs(run, result.fingerprints, fingerprints)
    result.fingerprints, result.tokens.budgeted = fingerprints, plan.tokens_after(plan.steps)
    model = build_model(config.model, tokenizer, seed=config.seed)
    if config.data.packing != "padded":
        refuse_leaking_model(model, config.data.packing)

    stored = checkpoints.checkpoints(run.checkpoints)
    start = max(stored, default=0)
    step_end = StepEnd(run, validation, stop)
    trainer = build_trainer(config, run, plan, loggers=loggers, callbacks=[step_end, *callbacks])
    try:
        trainer.fit(build_module(model, config, plan), datamodule=RunData(data, plan, start), ckpt_path=stored.get(start))
        result.state = "waiting" if step_end.stopped else "complete"
    finally:
        # Also when it raises: what was trained has been spent.
        result.metrics = last_values(run.metrics.rows())
        result.step = trainer.global_step
        result.tokens.trained += plan.tokens_after(trainer.global_step) - plan.tokens_after(start)
        result.seconds += time.perf_counter() - began
        write_result(run, result)
    return result


def _refuse_other_inputs(run: RunDirectory, before: dict[str, str], now: dict[str, str]) -> None:
    changed = [name for name, fingerprint in before.items() if now.get(name) != fingerprint]
    if changed:
        raise InputError(f"{run.path}: the {' and the '.join(changed)} changed since this run began; going on would mix two runs")
