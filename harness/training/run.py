"""One run, from its configuration to its result: the only way in to training."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger

from harness.config.errors import InputError
from harness.config.schema import Config
from harness.config.state_key import state_values
from harness.data.epochs import refuse_oversampling
from harness.data.mixture import Progress
from harness.models.activations import checkpoint_activations
from harness.models.adapters.build import build_adapted_model
from harness.models.attention import refuse_attention
from harness.models.compiled import compile_blocks
from harness.models.device import computes_on_gpu
from harness.models.isolation import isolate_documents
from harness.models.liger import liger_kernels
from harness.runs.directory import RunDirectory
from harness.runs.lifecycle import COMPLETE, STOPPED, Ending, LiveResult
from harness.runs.metrics import Row, last_values
from harness.training import provenance, ranks
from harness.training.checkpoints import checkpoints, last_good_checkpoint
from harness.training.errors import ReservedTooLittleError
from harness.training.evaluator import Evaluator
from harness.training.inputs import Inputs, load_inputs
from harness.training.objectives.build import build_module
from harness.training.parameters import count_parameters
from harness.training.sample_teacher import with_teacher_samples
from harness.training.step_end import StepEnd
from harness.training.stop import StopFlag
from harness.training.trainer import RunData, build_trainer
from harness.training.trunks import TrunkPath, Trunks, leaves_of


def train(
    config: Config,
    live: LiveResult,
    *,
    stop: StopFlag,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[Callback] = (),
    progress: Progress | None = None,
    evaluation_progress: Progress | None = None,
    trunks: Trunks | None = None,
) -> Ending:
    """Start the run of `live`, or go on from its last checkpoint, until its end or until `stop` is set; says which of the two it was.

    With several ranks all of them call it, connected (see `harness.training.ranks`), and those other than 0 without loggers and trunks.
    The caller holds the run's attempt lock. What comes of it is kept up to date in `live.result`, also when it raises.
    `progress` is told about tokenization and about samples that are drawn from a teacher, `evaluation_progress` about evaluations, see
    `Evaluator`. With `trunks` it begins where another run of the study has been already, and stores where others may leave its path.

    Raises InputError for data or a model that cannot be used, NonFiniteLossError when training diverges, CheckpointError when a
    checkpoint cannot be written, TrunkUnderWayError when another run trains just now what this one would train first.
    """
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    elif ranks.size() > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // config.trainer.devices))
    if ranks.is_main():
        result = live.result
        result.versions, result.git_commit, result.hardware = provenance.versions(), provenance.git_commit(), provenance.hardware()
    return _train(
        config,
        live,
        stop=stop,
        loggers=loggers,
        callbacks=callbacks,
        progress=progress,
        evaluation_progress=evaluation_progress,
        trunks=trunks,
    )


def drop_checkpoints(config: Config, run: RunDirectory) -> None:
    """Delete the checkpoints of a complete run that keeps none. Until its result says that it is complete, they are all that a killed
    attempt leaves."""
    if config.trainer.final_checkpoint == "none":
        for path in checkpoints(run.checkpoints).values():
            path.unlink()


def _train(
    config: Config,
    live: LiveResult,
    *,
    stop: StopFlag,
    loggers: Sequence[Logger],
    callbacks: Sequence[Callback],
    progress: Progress | None,
    evaluation_progress: Progress | None,
    trunks: Trunks | None,
) -> Ending:
    run, result = live.run, live.result
    # Rank 0 alone knows of trunks, but all must see the same data.
    relatives = ranks.from_main(lambda: trunks.relatives if trunks else ())
    inputs = load_inputs(config, progress=progress, relatives=relatives)
    plan = inputs.plan
    refuse_oversampling(config.data, plan.data, plan.batch_size, plan.steps)
    _refuse_other_inputs(run, result.fingerprints, inputs.fingerprints)
    result.fingerprints = inputs.fingerprints

    if ranks.size() > 1:
        _refuse_other_rows(inputs.fingerprints)
    start, checkpoint = ranks.from_main(lambda: last_good_checkpoint(run.checkpoints))
    if start > plan.steps:
        raise InputError(f"{run.path}: its checkpoint of step {start} lies behind the end of the run, which has {plan.steps} steps")
    if config.objective.teacher_samples is not None and start < plan.steps:
        plan = replace(plan, data=with_teacher_samples(config, plan.data, inputs.tokenizer, progress, rows=plan.rows))
    path = _trunk_path(config, run, inputs, trunks) if trunks and start < plan.steps else None
    shared_rows: list[Row] = []
    if path and (taken := path.begin(start)):
        trunk, checkpoint = taken
        result.tokens.shared += trunk.card.tokens - plan.tokens_after(start)
        result.shared_from = trunk.card.run
        start, shared_rows = trunk.card.step, trunk.rows
    own_start, own_checkpoint = start, checkpoint
    start, checkpoint = ranks.from_main(lambda: (own_start, own_checkpoint))
    rest = plan.tokens_after(plan.steps) - plan.tokens_after(start)
    if trunks and trunks.reserved_tokens is not None and rest > trunks.reserved_tokens:
        if path:
            path.end()
        raise ReservedTooLittleError(f"it would train {rest} tokens, {trunks.reserved_tokens} are reserved: its trunk is gone")
    result.tokens.budgeted = plan.tokens_after(plan.steps) - result.tokens.shared
    result.step, result.tokens.position = start, plan.tokens_after(start)
    live.running()

    evaluator = Evaluator(config, inputs.validation, inputs.multiple_choice, evaluation_progress)
    step_end = StepEnd(run, evaluator, stop, path, shared_rows)
    trainer: Trainer | None = None
    try:
        # Else it was complete, but for the result of an attempt that was killed just before it wrote one.
        if start < plan.steps:
            refuse_attention(config)
            model = build_adapted_model(config, inputs.tokenizer).model
            result.parameters = count_parameters(model)
            isolate_documents(model, config)
            if config.trainer.gradient_checkpointing:
                checkpoint_activations(model)
            module = build_module(model, config, plan, inputs.tokenizer)
            on_gpu = computes_on_gpu(config.trainer)
            # Kernels come last, since probes run where the model was made, on the CPU, and on shapes of their own.
            with liger_kernels(model, on_gpu=on_gpu) if config.model.liger else contextlib.nullcontext():
                if config.trainer.compile:
                    compile_blocks(model, on_gpu=on_gpu)
                trainer = build_trainer(config, run, plan, loggers=loggers, callbacks=[step_end, *callbacks])
                trainer.fit(module, datamodule=RunData(plan, start), ckpt_path=checkpoint, weights_only=True)
        ending = STOPPED if step_end.stopped else COMPLETE
    finally:
        if path:
            path.end()
        # Also when it raises: what was trained has been spent.
        result.evaluation_seconds += evaluator.seconds
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
    """The path of this run, which it leaves to those relatives that have some of it in common."""
    prefix = inputs.prefix(config)
    related = []
    for other in trunks.relatives:
        if state_values(other) == state_values(config):
            with contextlib.suppress(InputError):  # values that do not go together: no run will have them
                related.append(inputs.prefix(other))
    return TrunkPath(run, prefix, trunks.store, leaves_of(prefix, related))


def _refuse_other_rows(fingerprints: dict[str, str]) -> None:
    """Raise InputError when a rank reads other files than rank 0 does: on a machine whose copy of them is an older one, say."""
    for rank, theirs in enumerate(ranks.gathered(fingerprints)):
        different = [name for name, fingerprint in fingerprints.items() if theirs[name] != fingerprint]
        if different:
            raise InputError(f"rank {rank} finds another {' and '.join(different)} than rank {ranks.rank()}; all must read the same files")


def _refuse_other_inputs(run: RunDirectory, before: dict[str, str], now: dict[str, str]) -> None:
    changed = [name for name, fingerprint in before.items() if now.get(name) != fingerprint]
    if changed:
        raise InputError(f"{run.path}: the {' and the '.join(changed)} changed since this run began; going on would mix two runs")
