"""Training one run, from its configuration to its result."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

from lightning.pytorch import Callback, Trainer

from harness.config.errors import InputError
from harness.config.schema import Config
from harness.config.state_key import state_values
from harness.data.epochs import check_epochs
from harness.data.tokenization import Progress
from harness.evaluation.kinds import refuse_unlogged_monitors
from harness.models.activations import checkpoint_activations
from harness.models.adapters.build import build_adapted_model
from harness.models.attention import refuse_attention
from harness.models.checkpoint_files import checkpoints, last_good_checkpoint
from harness.models.compiled import compile_blocks
from harness.models.device import computes_on_gpu
from harness.models.isolation import isolate_documents
from harness.models.liger import liger_kernels
from harness.models.vocabulary import refuse_unknown_ids
from harness.runs.directory import RunDirectory
from harness.runs.lifecycle import COMPLETE, STOPPED, Ending, EndingKind, LiveResult
from harness.runs.metrics import Row, last_values
from harness.training import ranks
from harness.training.begin import begin
from harness.training.callbacks import EarlyStopping, build_callbacks
from harness.training.evaluator import Evaluator
from harness.training.inputs import Inputs
from harness.training.loggers import MetricLogger
from harness.training.module import TrainingModule
from harness.training.objectives.build import build_objective
from harness.training.parameters import count_parameters
from harness.training.run_errors import ReservedTooLittleError
from harness.training.steering import directions_of
from harness.training.step_end import StepEnd
from harness.training.stop_flag import StopFlag
from harness.training.trainer import RunData, build_trainer
from harness.training.trunk_path import TrunkPath, Trunks


def train(
    config: Config,
    live: LiveResult,
    *,
    stop: StopFlag,
    loggers: Sequence[MetricLogger] = (),
    callbacks: Sequence[Callback] = (),
    progress: Progress | None = None,
    evaluation_progress: Progress | None = None,
    trunks: Trunks | None = None,
) -> Ending:
    """Start the run of `live`, or go on from its last checkpoint, until its end, until `stop` is set, or until a callback ends it; says
    which of them it was.

    With several ranks all of them call it, connected (see `harness.training.ranks`), and those other than 0 without loggers and trunks.
    The caller holds the run's attempt lock. What comes of it is kept up to date in `live.result`, also when it raises.
    `progress` is told about tokenization and about samples that are drawn from a teacher, `evaluation_progress` about evaluations, see
    `Evaluator`. With `trunks` it begins from the deepest stored state on its path, and stores states where others branch off.

    Raises InputError for data or a model that cannot be used, NonFiniteLossError when training diverges, CheckpointError when a
    checkpoint cannot be written, TrunkUnderWayError when another run trains just now what this one would train first.
    """
    run, result = live.run, live.result
    refuse_unlogged_monitors(config)
    named = build_callbacks(config)
    # Rank 0 alone knows of trunks, but all must see the same data.
    related = ranks.from_main(lambda: trunks.related if trunks else ())
    inputs = begin(config, live, progress=progress, related=related)
    plan = inputs.plan
    assert plan is not None, "a run without a step is measured"
    check_epochs(config.data, plan.data, plan.batch_size, plan.steps)
    start, checkpoint = ranks.from_main(lambda: last_good_checkpoint(run.checkpoints))
    if start > plan.steps:
        raise InputError(f"{run.path}: its checkpoint of step {start} lies behind the end of the run, which has {plan.steps} steps")
    objective = build_objective(config)
    if start < plan.steps:
        plan = replace(plan, data=objective.prepare(plan.data, inputs.tokenizer, progress, rows=plan.rows))
    path = _trunk_path(config, run, inputs, trunks) if trunks and start < plan.steps else None
    shared_rows: list[Row] = []
    if path and (taken := path.begin(start)):
        trunk, checkpoint = taken
        result.tokens.shared += trunk.info.tokens - plan.tokens_after(start)
        result.shared_from = trunk.info.run
        start, shared_rows = trunk.info.step, trunk.rows
    own_start, own_checkpoint = start, checkpoint
    start, checkpoint = ranks.from_main(lambda: (own_start, own_checkpoint))
    result.tokens.budgeted = plan.tokens_after(plan.steps) - result.tokens.shared
    result.step, result.tokens.position = start, plan.tokens_after(start)
    rest = plan.tokens_after(plan.steps) - result.tokens.position
    if trunks and trunks.reserved_tokens is not None and rest > trunks.reserved_tokens:
        if path:
            path.end()
        raise ReservedTooLittleError(f"it would train {rest} tokens, {trunks.reserved_tokens} are reserved: its trunk is gone")
    live.running()

    evaluator = Evaluator(config, inputs.evaluation, evaluation_progress, tokenizer=inputs.tokenizer)
    watchers = [callback for callback in named if isinstance(callback, EarlyStopping)]
    step_end = StepEnd(run, evaluator, stop, loggers, path, shared_rows, watchers)
    trainer: Trainer | None = None
    try:
        # Else it was complete, but for the result of an attempt that was killed just before it wrote one.
        if start < plan.steps:
            refuse_attention(config)
            model = build_adapted_model(config, inputs.tokenizer, directions_of(config, inputs.tokenizer, progress)).model
            refuse_unknown_ids(model, inputs.tokenizer, inputs.largest_id, path=config.model.path)
            result.parameters = count_parameters(model)
            isolate_documents(model, config)
            if config.trainer.gradient_checkpointing:
                checkpoint_activations(model)
            objective.load(model, inputs.tokenizer)
            module = TrainingModule(model, config, plan, objective)
            on_gpu = computes_on_gpu(config.trainer)
            # Kernels come last, since probes run where the model was made, on the CPU, and on shapes of their own.
            with liger_kernels(model, on_gpu=on_gpu) if config.model.liger else contextlib.nullcontext():
                if config.trainer.compile:
                    compile_blocks(model, on_gpu=on_gpu)
                trainer = build_trainer(config, run, plan, loggers=loggers, callbacks=[step_end, *callbacks, *named])
                trainer.fit(module, datamodule=RunData(plan, start), ckpt_path=checkpoint, weights_only=True)
        ending = STOPPED if step_end.stopped else COMPLETE
        if ending is COMPLETE and trainer is not None and trainer.global_step < plan.steps:
            names = ", ".join(f"trainer.callbacks.{name}" for name in config.trainer.callbacks) or "a callback"
            ending = Ending(EndingKind.PRUNED, f"ended by {names} at step {trainer.global_step} of {plan.steps}")
    finally:
        if path:
            path.end()
        # Also when it raises: what was trained has been spent.
        result.add_evaluation(evaluator.seconds, evaluator.set_seconds)
        # Lightning's count is 0 until it has restored the checkpoint.
        result.step = max(start, trainer.global_step) if trainer else start
        result.tokens.trained += plan.tokens_after(result.step) - plan.tokens_after(start)
        result.tokens.position = plan.tokens_after(max(checkpoints(run.checkpoints), default=0))
        result.metrics = last_values([row for row in run.metrics.rows() if row["step"] <= result.step])
    if ending is COMPLETE:
        # Nothing is left to do, whatever is kept of it.
        result.tokens.position = plan.tokens_after(plan.steps)
    return ending


def _trunk_path(config: Config, run: RunDirectory, inputs: Inputs, trunks: Trunks) -> TrunkPath:
    """This run's path along the trunks; it stores states for the related runs that share its first steps."""
    prefix, state = inputs.prefix(config), state_values(config)
    related = []
    for other in trunks.related:
        if state_values(other) == state:
            with contextlib.suppress(InputError):  # values that do not go together: no run will have them
                related.append(inputs.prefix(other))
    return TrunkPath(run, prefix, trunks.store, {prefix.shared_with(other).steps for other in related})
