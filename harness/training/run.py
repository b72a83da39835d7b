"""One run, from its configuration to its result: the only way in to training."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger

from harness.config.errors import InputError
from harness.config.schema import Config
from harness.config.state_key import state_values
from harness.data.epochs import refuse_oversampling
from harness.data.tokenization import Progress
from harness.models.activations import checkpoint_activations
from harness.models.adapters.build import build_adapted_model
from harness.models.attention import refuse_attention
from harness.models.checkpoint_files import checkpoints, last_good_checkpoint
from harness.models.compiled import compile_blocks
from harness.models.device import computes_on_gpu
from harness.models.isolation import isolate_documents
from harness.models.liger import liger_kernels
from harness.runs.directory import RunDirectory
from harness.runs.metrics import Row, last_values
from harness.runs.result import CLEAN_STOP, Result, State, read_result, write_result
from harness.training import provenance, ranks
from harness.training.errors import NonFiniteLossError, ReservedTooLittleError, RunError, TrunkUnderWayError
from harness.training.evaluator import Evaluator
from harness.training.inputs import Inputs, load_inputs
from harness.training.module import TrainingModule
from harness.training.objectives.build import build_objective
from harness.training.parameters import count_parameters
from harness.training.step_end import StepEnd
from harness.training.stop import StopFlag
from harness.training.trainer import RunData, build_trainer
from harness.training.trunks import TrunkPath, Trunks, leaves_of


def train(
    config: Config,
    run: RunDirectory,
    *,
    stop: StopFlag,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[Callback] = (),
    progress: Progress | None = None,
    evaluation_progress: Progress | None = None,
    trunks: Trunks | None = None,
) -> Result:
    """Start `run`, or go on from its last checkpoint, until its end or until `stop` is set.

    With several ranks all of them call it, connected (see `harness.training.ranks`). What is written is rank 0's, and so are the loggers.

    The result is returned, and stands in result.json: running while it trains, complete at its end, waiting when it was stopped or broke
    off for a reason of its surroundings, failed when another attempt would come to the same. The caller holds the run's attempt lock.
    `progress` is told about tokenization and about samples that are drawn from a teacher, `evaluation_progress` about evaluations, see
    `Evaluator`. With `trunks` it begins where another run of the study has been already, and stores where others may leave its path.

    Raises InputError for data or a model that cannot be used, NonFiniteLossError when training diverges, CheckpointError when a
    checkpoint cannot be written, TrunkUnderWayError when another run trains just now what this one would train first.
    """
    began = time.perf_counter()
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    elif ranks.size() > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // config.trainer.devices))
    if not ranks.is_main():
        # Its files are rank 0's.
        result = Result()
        result.state = _train(
            config, run, result, stop=stop, loggers=(), callbacks=callbacks, progress=None, evaluation_progress=None, trunks=None
        )
        return result
    result = read_result(run)
    if result.state == "running":
        _book_death(run, result)
    # Not running yet: an attempt that dies before its first step has trained nothing.
    result.state, result.reason, result.waits_for, result.attempts = "waiting", None, None, result.attempts + 1
    result.versions, result.git_commit, result.hardware = provenance.versions(), provenance.git_commit(), provenance.hardware()
    write_result(run, result)
    try:
        result.state = _train(
            config,
            run,
            result,
            stop=stop,
            loggers=loggers,
            callbacks=callbacks,
            progress=progress,
            evaluation_progress=evaluation_progress,
            trunks=trunks,
        )
        if result.state == "waiting":
            result.reason = CLEAN_STOP
    except TrunkUnderWayError as error:
        # It has not begun: no attempt to speak of.
        result.attempts, result.reason, result.waits_for = result.attempts - 1, str(error), str(error.lease_lock)
        raise
    except ReservedTooLittleError as error:
        result.attempts, result.reason = result.attempts - 1, str(error)
        raise
    except BaseException as error:
        result.state = "failed" if isinstance(error, NonFiniteLossError | InputError) else "waiting"
        result.reason = _reason(error)
        raise
    finally:
        result.seconds += time.perf_counter() - began
        write_result(run, result)
    if result.state == "complete" and config.trainer.final_checkpoint == "none":
        # Only now: until the result says that it is complete, they are all that a killed attempt leaves.
        for path in checkpoints(run.checkpoints).values():
            path.unlink()
    return result


def _train(
    config: Config,
    run: RunDirectory,
    result: Result,
    *,
    stop: StopFlag,
    loggers: Sequence[Logger],
    callbacks: Sequence[Callback],
    progress: Progress | None,
    evaluation_progress: Progress | None,
    trunks: Trunks | None,
) -> State:
    """The attempt itself: how it ended. The rest of `result` is brought up to date, whatever happens."""
    # Rank 0 alone knows of trunks, but all must see the same data.
    relatives = ranks.from_main(lambda: trunks.relatives if trunks else ())
    inputs = load_inputs(config, progress=progress, relatives=relatives)
    plan = inputs.plan
    assert plan is not None, "a run without a step is `measure`d"
    refuse_oversampling(config.data, plan.data, plan.batch_size, plan.steps)
    _refuse_other_inputs(run, result.fingerprints, inputs.fingerprints)
    result.fingerprints = inputs.fingerprints

    if ranks.size() > 1:
        _refuse_other_rows(inputs.fingerprints)
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
    result.state, result.step, result.tokens.position = "running", start, plan.tokens_after(start)
    if ranks.is_main():
        write_result(run, result)

    evaluator = Evaluator(config, inputs.evaluation, evaluation_progress)
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
            objective.load(model, inputs.tokenizer)
            module = TrainingModule(model, config, plan, objective)
            on_gpu = computes_on_gpu(config.trainer)
            # Kernels come last, since probes run where the model was made, on the CPU, and on shapes of their own.
            with liger_kernels(model, on_gpu=on_gpu) if config.model.liger else contextlib.nullcontext():
                if config.trainer.compile:
                    compile_blocks(model, on_gpu=on_gpu)
                trainer = build_trainer(config, run, plan, loggers=loggers, callbacks=[step_end, *callbacks])
                trainer.fit(module, datamodule=RunData(plan, start), ckpt_path=checkpoint, weights_only=True)
        state: State = "waiting" if step_end.stopped else "complete"
    finally:
        if path:
            path.end()
        # Also when it raises: what was trained has been spent.
        result.evaluation_seconds += evaluator.seconds
        result.step = trainer.global_step if trainer else start
        result.tokens.trained += plan.tokens_after(result.step) - plan.tokens_after(start)
        result.tokens.position = plan.tokens_after(max(checkpoints(run.checkpoints), default=0))
        result.metrics = last_values([row for row in run.metrics.rows() if row["step"] <= result.step])
    if state == "complete":
        # Nothing is left to do, whatever is kept of it.
        result.tokens.position = plan.tokens_after(plan.steps)
    return state


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


def _reason(error: BaseException) -> str:
    match error:
        case RunError() | InputError():
            return str(error)
        case KeyboardInterrupt() | SystemExit():  # the latter is what Lightning makes of the former
            return "interrupted"
        case _:
            return f"{type(error).__name__}: {error}"


def _book_death(run: RunDirectory, result: Result) -> None:
    """Count what an attempt trained that died without a word, as far as its last row of metrics tells."""
    newest = run.metrics.newest()
    if newest is not None:
        result.tokens.trained += max(0, newest["tokens"] - result.tokens.position)
    result.failures += 1


def _refuse_other_inputs(run: RunDirectory, before: dict[str, str], now: dict[str, str]) -> None:
    changed = [name for name, fingerprint in before.items() if now.get(name) != fingerprint]
    if changed:
        raise InputError(f"{run.path}: the {' and the '.join(changed)} changed since this run began; going on would mix two runs")
