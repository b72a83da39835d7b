"""One attempt on a run: training, tracking and the run's files put together."""

from __future__ import annotations

import logging
import os
import socket
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.checks.trainer import trains
from harness.config.errors import InputError, wrong_value
from harness.config.nested import set_value
from harness.config.schema import Config
from harness.config.synth_path import made_sources
from harness.config.terminal import log_to_stderr
from harness.config.validate import to_plain, to_section
from harness.runs import exit_codes
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.files import read_json
from harness.runs.lifecycle import OUT_OF_MEMORY, Ending, EndingKind, LiveResult, ending_of_error
from harness.runs.locks import hold
from harness.runs.machine_faults import machine_fault
from harness.runs.record import load_run
from harness.runs.result import FINAL_STATES
from harness.runs.run_config import load_run_config
from harness.runs.trial import read_trial
from harness.runs.trunks import TrunkStore
from harness.runs.world import World

if TYPE_CHECKING:
    from harness.launch.local_ranks import LocalRanks
    from harness.tracking.wandb_logger import WandbLogger
    from harness.training.loggers import MetricLogger
    from harness.training.stop_flag import StopFlag
    from harness.training.trunk_path import Trunks

log = logging.getLogger("harness")

PRELOAD = ["harness.work.warm", "transformers.models.auto.modeling_auto"]
"""Modules that a warm server imports for its children."""

LOCK_SECONDS = 30.0
"""A killed process releases its lock at once; one that saves a checkpoint needs a moment."""

LOST_SECONDS = 5.0
"""The end of a rank may be known a moment after its connections broke."""


def attempt_trial(directory: str, world: World | None = None, listener: socket.socket | None = None) -> int:
    """Run or resume a trial in a process of its own, whose output goes to the trial's log.txt; returns the exit code.

    world, listener: where the others follow in processes that something else has started, see `attempt`.
    """
    run = RunDirectory(Path(directory))
    try:
        _log_to(run)
        code = attempt(run, world=world, listener=listener)
    except (InputError, OSError) as error:
        log.error("%s", error)
        if machine_fault(error) is not None:
            code = exit_codes.MACHINE_FAULT
        elif isinstance(error, InputError):
            code = exit_codes.BAD_INPUT
        else:
            raise
    if code == exit_codes.MACHINE_FAULT:
        _say_no_more()
    return code


def follow_trial(directory: str, world: World) -> int:
    """Take part in an attempt on a trial as a rank other than 0, in a process of its own; returns the exit code."""
    from harness.training.stop_flag import StopFlag

    stop = StopFlag()
    stop.install()
    run = RunDirectory(Path(directory))
    _log_to(run)
    try:
        follow(run, load_run_config(run), world, stop)
    except Exception as error:  # noqa: BLE001 - whatever it is, rank 0 hears of it by the exit code
        from harness.training.memory import is_out_of_memory

        log.error("rank %d: %s", world.rank, traceback.format_exc())
        if machine_fault(error) is not None:
            return exit_codes.MACHINE_FAULT
        return exit_codes.OUT_OF_MEMORY if is_out_of_memory(error) else exit_codes.FAILED
    return exit_codes.DONE


def _say_no_more() -> None:
    """What is still to be said would be refused by a full disk, and the process would end with another exit code for it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def _log_to(run: RunDirectory) -> None:
    with run.log.open("ab", buffering=0) as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    log_to_stderr("%(asctime)s %(name)s: %(message)s", force=True)


def attempt(
    run: RunDirectory,
    *,
    show_progress: bool = False,
    world: World | None = None,
    listener: socket.socket | None = None,
    stop: StopFlag | None = None,
) -> int:
    """Run or resume the run in this process; returns the exit code. The result is in its result.json.

    world: where all ranks are started already, this process being rank 0 and the others in `follow`; else this process starts those of its
    machine. listener: a socket that it listens on as rank 0 of that world; None where it is connected already (see
    `harness.training.ranks`). stop: set when the run is to save a checkpoint and leave; by default one of its own, set by signals.
    Raises InputError for data, a model or a configuration that cannot be used, and where another process works on this run.
    """
    from harness.models.device import refuse_missing_devices
    from harness.training.run_errors import RunError
    from harness.training.stop_flag import StopFlag

    # Before torch is imported, which takes seconds: from here on a signal asks for a clean stop.
    stop = stop or StopFlag()
    stop.install()
    lock = hold(run.attempt_lock, wait_seconds=LOCK_SECONDS)
    if lock is None:
        raise InputError(f"{run.path}: another process works on this run")
    local: LocalRanks | None = None
    live = LiveResult(run, lambda error: ending_of(error, local, run))
    with ExitStack() as cleanup:
        cleanup.callback(lock.release)
        try:
            with live:
                config = load_run_config(run)
                refuse_missing_devices(config.trainer)
                local = None if world else _start_local_ranks(config, live)
                if local:
                    cleanup.callback(local.end)
                with _connected(config, local.world if local else world or World(), local.listener if local else listener):
                    live.ending = _run(config, live, stop, cleanup, show_progress=show_progress)
            if live.ending.kind in (EndingKind.COMPLETE, EndingKind.PRUNED) and config.trainer.final_checkpoint == "none":
                # Until its result says that it is complete, they are all that a killed attempt leaves.
                from harness.models.checkpoint_files import drop_checkpoints

                drop_checkpoints(run.checkpoints)
        except InputError:
            raise
        except RunError as error:
            ending = live.ending or error.ending
            log.log(logging.INFO if ending.is_orderly else logging.ERROR, "%s", ending.reason)
        except Exception as error:  # noqa: BLE001 - whatever it is, the run's files say so
            if (fault := machine_fault(error, run.path)) is not None:
                live.ending = ending_of(error, local, run)  # also where its result could not be written, at its beginning or end
                log.error("%s", fault)
            else:
                log.error("%s", (local and local.failure()) or traceback.format_exc())
    assert live.ending is not None, "it has ended"
    return live.ending.exit_code


def ending_of(error: BaseException, local: LocalRanks | None = None, run: RunDirectory | None = None) -> Ending:
    """The ending of an attempt that raised `error`. local: the other ranks, if it has started any."""
    from harness.training.run_errors import RunError

    ending = ending_of_error(error, run)
    if ending.kind is EndingKind.MACHINE_FAULT:
        return ending
    if isinstance(error, RunError):
        return error.ending
    if ending.kind is not EndingKind.CRASHED:
        return ending
    from harness.training.memory import is_out_of_memory

    # A dead rank shows as a broken connection, or worse.
    lost = local.failure(wait_seconds=LOST_SECONDS) if local else None
    if lost is not None:
        return Ending(EndingKind.CRASHED, lost)
    if is_out_of_memory(error):
        said = next(iter(str(error).splitlines()), "") or type(error).__name__
        return Ending(EndingKind.OUT_OF_MEMORY, f"{OUT_OF_MEMORY}: {said}")
    return ending


def follow(run: RunDirectory, config: Config, world: World, stop: StopFlag) -> None:
    """Take part in an attempt as a rank other than 0; returns when the attempt has ended normally."""
    live = LiveResult(run, ending_of, is_written=False)
    with _connected(config, world):
        _program(config)(_with_data(config), live, stop=stop)


def _program(config: Config) -> Callable[..., Ending]:
    """`train`, or `measure` for a run that trains nothing. Its imports take seconds."""
    if trains(config.trainer):
        from harness.training.train import train

        return train
    from harness.training.measure import measure

    return measure


def _start_local_ranks(config: Config, live: LiveResult) -> LocalRanks | None:
    """The other ranks of a run on this machine, where it has several."""
    trainer = config.trainer
    if trainer.nodes > 1:
        raise wrong_value("trainer.nodes", trainer.nodes, "start the command on all nodes, with srun or torchrun")
    if trainer.devices == 1:
        return None
    _program(config)  # imported before they are forked, so that they need not
    from harness.launch.local_ranks import LocalRanks
    from harness.training.stop_flag import RankZeroStops

    return LocalRanks(
        trainer.devices,
        lambda world: follow(live.run, config, world, RankZeroStops()),
        on_stuck=live.died,
    )


def _connected(config: Config, world: World, listener: socket.socket | None = None) -> AbstractContextManager[None]:
    from harness.training.ranks import connected

    return connected(world, accelerator=config.trainer.accelerator, listener=listener)


def _run(config: Config, live: LiveResult, stop: StopFlag, cleanup: ExitStack, *, show_progress: bool) -> Ending:
    """Train, or only evaluate, as rank 0, with W&B and progress on the terminal. cleanup: callbacks for after result.json is written."""
    from harness.data.tokenization_progress import TokenizationProgress
    from harness.training.run_progress import RunProgress

    wandb = _wandb_logger(config, live.run)
    if wandb:
        cleanup.push(partial(_finish, wandb, live))
    bar = RunProgress() if show_progress else None
    if bar:
        cleanup.callback(bar.stop)
    data = _with_data(config, live)
    loggers: list[MetricLogger] = [*([wandb] if wandb else []), *([bar.logger] if bar else [])]
    run = partial(
        _program(config),
        data,
        live,
        stop=stop,
        loggers=loggers,
        progress=TokenizationProgress().update if show_progress else None,
        evaluation_progress=bar.evaluating if bar else None,
    )
    if not trains(config.trainer):
        return run()
    from harness.training.step_progress import StepProgress

    return run(callbacks=[StepProgress(bar)] if bar else [], trunks=_trunks(config, live.run))


def _with_data(config: Config, live: LiveResult | None = None) -> Config:
    """The configuration with the files of the data that are made for it, now or before. live: where it is booked what that cost."""
    if not made_sources(config.data):
        return config
    from harness.work.made_data import with_made_data

    made = with_made_data(config)
    if live is not None:
        teachers = live.result.teachers
        teachers.spent, teachers.pools = teachers.spent + made.spent, made.pools
        # A pool that was deleted and made again has cost this run more than the pool says.
        teachers.shared = max(0, sum(made.pools.values()) - teachers.spent)
    return made.config


def _finish(wandb: WandbLogger, live: LiveResult, _kind: object, error: BaseException | None, _traceback: object) -> None:
    """End the attempt's part of the W&B run with the summary from the run's own files. Where the attempt was refused before its first row,
    W&B hears nothing of it: its directory may be taken back."""
    if isinstance(error, InputError) and not wandb.is_open:
        return
    from harness.tracking.off_note import note_wandb_off
    from harness.tracking.run_summary import objective_of, summary_of

    assert live.ending is not None, "it has ended"
    run, result, trial = live.run, live.result, read_trial(live.run)
    # The state that the study will give it.
    state = "pruned" if result.state == "waiting" and trial is not None and trial.given_up is not None else result.state
    wandb.summary(summary_of(result, run.metrics.rows(), objective_of(run), trial=trial, state=state))
    if state == "waiting" and live.ending.is_orderly:
        wandb.preempting()
    wandb.finish("success" if live.ending.is_orderly else "failed", is_complete=state == "complete")
    if wandb.failure is not None and run.study is not None:
        try:
            note_wandb_off(run.study, run, wandb.failure)
        except OSError as fault:  # a disk that fails W&B fails the note of it, and what matters is written
            log.warning("%s", fault)


def _trunks(config: Config, run: RunDirectory) -> Trunks | None:
    """The trunks of a trial's study."""
    study = run.study
    if study is None or not run.related_trials.exists():
        return None
    from harness.training.trunk_path import Trunks

    document = read_json(run.related_trials)
    assert document is not None, "it exists"
    store = TrunkStore(
        study.trunks,
        neighbours=[other for other in study.path.parent.glob("*/trunks") if other != study.trunks],
        disk_bytes=int(document["disk_gb"] * 1e9),
        needed=lambda: _parents_of_unfinished(study),
    )
    trial = read_trial(run)
    related = tuple(_with_values(config, values) for values in document["relatives"])
    return Trunks(store, related, reserved_tokens=trial.tokens if trial else None)


def _parents_of_unfinished(study: StudyDirectory) -> set[str]:
    """The names of the runs whose trunks unfinished trials of the study continue."""
    unfinished = [record for run in study.trials() if (record := load_run(run, study=study.name)).state not in FINAL_STATES]
    parents = [record.trial.parent for record in unfinished if record.trial is not None]
    return {study.trial(parent).name for parent in parents if parent is not None}


def _with_values(config: Config, values: dict[str, Any]) -> Config:
    plain = to_plain(config)
    for key, value in values.items():
        set_value(plain, key, value)
    return to_section(Config, plain)


def _wandb_logger(config: Config, run: RunDirectory) -> WandbLogger | None:
    if config.tracking.name == "none":
        return None
    from harness.tracking.identity import identity_of_run
    from harness.tracking.wandb_logger import WandbLogger

    return WandbLogger(config.tracking, identity=identity_of_run(run), directory=run.path, hyperparameters=to_plain(config))
