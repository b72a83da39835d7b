"""One attempt on a run: the place where training, tracking and the run's files are put together."""

from __future__ import annotations

import logging
import os
import socket
import traceback
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.errors import InputError, wrong_value
from harness.config.load import load_file, set_value
from harness.config.schema import Config
from harness.config.validate import to_plain, to_section
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.exit_codes import BAD_INPUT, DONE, FAILED, OUT_OF_MEMORY, RESERVED_TOO_LITTLE, STOPPED, TRUNK_UNDER_WAY
from harness.runs.files import read_json
from harness.runs.locks import hold
from harness.runs.result import FINAL_STATES, Result, State, read_result, write_result
from harness.runs.trial import read_trial
from harness.runs.trunks import TrunkStore
from harness.runs.world import World

if TYPE_CHECKING:
    from harness.launch.ranks import LocalRanks
    from harness.tracking.wandb_logger import WandbLogger
    from harness.training.stop import StopFlag
    from harness.training.trunks import Trunks

log = logging.getLogger("harness")

PRELOAD = ["harness.training.run", "harness.tracking.warm", "transformers.models.auto.modeling_auto"]
"""What a warm server imports so that its children need not."""

LOCK_SECONDS = 30.0
"""A process that was killed lets go at once; one that is saving a checkpoint needs a moment."""

LOST_SECONDS = 5.0
"""A rank's end may be heard of a moment after its connections broke."""


def attempt_trial(directory: str, world: World | None = None, listener: socket.socket | None = None) -> int:
    """Run or resume a trial in a process of its own, whose output goes to the trial's log.txt; returns the exit code.

    world, listener: where the others follow in processes that something else has started, see `attempt`.
    """
    run = RunDirectory(Path(directory))
    _log_to(run)
    try:
        # Whether a crash is worth another attempt is for the worker to say.
        return attempt(run, crashed="waiting", world=world, listener=listener)
    except InputError as error:
        log.error("%s", error)
        return BAD_INPUT


def follow_trial(directory: str, world: World) -> int:
    """Take part in an attempt on a trial as a rank other than 0, in a process of its own; returns the exit code."""
    from harness.training.stop import StopFlag

    stop = StopFlag()
    stop.install()
    run = RunDirectory(Path(directory))
    _log_to(run)
    try:
        follow(run, load_file(run.config), world, stop)
    except Exception as error:  # noqa: BLE001 - whatever it is, rank 0 hears of it by the exit code
        from harness.training.memory import is_out_of_memory

        log.error("rank %d: %s", world.rank, traceback.format_exc())
        return OUT_OF_MEMORY if is_out_of_memory(error) else FAILED
    return DONE


def _log_to(run: RunDirectory) -> None:
    with run.log.open("ab", buffering=0) as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", force=True)


def attempt(
    run: RunDirectory,
    *,
    crashed: State,
    show_progress: bool = False,
    world: World | None = None,
    listener: socket.socket | None = None,
    stop: StopFlag | None = None,
) -> int:
    """Run or resume the run in this process; returns the exit code. Its result.json says what came of it.

    crashed: the state of a run whose attempt ends with an unexpected exception. world: where all ranks are started already, this process
    being rank 0 and the others in `follow`; else this process starts those of its machine. listener: a socket that it listens on as rank 0
    of that world; None where it is connected already (see `harness.training.ranks`).
    stop: set when the run is to save a checkpoint and leave; by default one of its own, set by signals.
    Raises InputError for data, a model or a configuration that cannot be used, and where another process works on this run.
    """
    from harness.models.device import refuse_missing_devices
    from harness.training.errors import NonFiniteLossError, ReservedTooLittleError, RunError, TrunkUnderWayError
    from harness.training.stop import StopFlag

    # Before torch is imported, which takes seconds: from here on a signal asks for a clean stop.
    stop = stop or StopFlag()
    stop.install()
    lock = hold(run.attempt_lock, wait_seconds=LOCK_SECONDS)
    if lock is None:
        raise InputError(f"{run.path}: another process works on this run")
    local: LocalRanks | None = None
    try:
        config = load_file(run.config)
        refuse_missing_devices(config.trainer)
        local = None if world else _start_local_ranks(config, run, crashed)
        with _connected(config, local.world if local else world or World(), local.listener if local else listener):
            return _tracked(config, run, stop, show_progress=show_progress)
    except InputError as error:
        _end(run, "failed", str(error))
        raise
    except TrunkUnderWayError as error:
        log.info("%s: it had better wait", error)
        return TRUNK_UNDER_WAY
    except ReservedTooLittleError as error:
        log.info("%s", error)
        return RESERVED_TOO_LITTLE
    except RunError as error:
        _end(run, "failed" if isinstance(error, NonFiniteLossError) else crashed, str(error))
        log.error("%s", error)
        return FAILED
    except Exception as error:  # noqa: BLE001 - whatever it is, the run's files must say so
        from harness.training.memory import is_out_of_memory

        # A rank that is gone shows as a broken connection, or worse.
        lost = local.failure(wait_seconds=LOST_SECONDS) if local else None
        if lost is None and is_out_of_memory(error):
            said = next(iter(str(error).splitlines()), "") or type(error).__name__
            _end(run, crashed, f"out of memory: {said}")
            log.error("%s", traceback.format_exc())
            return OUT_OF_MEMORY
        _end(run, crashed, lost or f"{type(error).__name__}: {error}")
        log.error("%s", lost or traceback.format_exc())
        return FAILED
    finally:
        if local:
            local.end()
        lock.release()


def follow(run: RunDirectory, config: Config, world: World, stop: StopFlag) -> None:
    """Take part in an attempt as a rank other than 0, which writes all files; returns when the attempt has ended as it should."""
    from harness.training.run import train

    with _connected(config, world):
        train(config, run, stop=stop)


def _start_local_ranks(config: Config, run: RunDirectory, crashed: State) -> LocalRanks | None:
    """The other ranks of a run on this machine, where it has several."""
    trainer = config.trainer
    if trainer.nodes > 1:
        raise wrong_value("trainer.nodes", trainer.nodes, "start the command on all nodes, with srun or torchrun")
    if trainer.devices == 1:
        return None
    # Before they are forked, so that they need not.
    import harness.training.run  # noqa: F401
    from harness.launch.ranks import LocalRanks
    from harness.training.stop import RankZeroStops

    return LocalRanks(
        trainer.devices,
        lambda world: follow(run, config, world, RankZeroStops()),
        on_stuck=lambda reason: _end(run, crashed, reason),
    )


def _connected(config: Config, world: World, listener: socket.socket | None = None) -> AbstractContextManager[None]:
    from harness.training.ranks import connected

    return connected(world, accelerator=config.trainer.accelerator, listener=listener)


def _end(run: RunDirectory, state: State, reason: str) -> None:
    result = read_result(run)
    result.state, result.reason = state, reason
    write_result(run, result)


def _tracked(config: Config, run: RunDirectory, stop: StopFlag, *, show_progress: bool) -> int:
    from harness.data.progress import TokenizationProgress
    from harness.training.errors import ReservedTooLittleError, TrunkUnderWayError
    from harness.training.progress import StepProgress
    from harness.training.run import train

    wandb = _wandb_logger(config, run)
    progress = StepProgress() if show_progress else None
    crashed = True
    try:
        result = train(
            config,
            run,
            stop=stop,
            loggers=[*([wandb] if wandb else []), *([progress.logger] if progress else [])],
            callbacks=[progress] if progress else [],
            progress=TokenizationProgress().update if show_progress else None,
            evaluation_progress=progress.evaluating if progress else None,
            trunks=_trunks(config, run),
        )
        crashed = False
    except (TrunkUnderWayError, ReservedTooLittleError):
        crashed = False  # it has not begun, and will
        raise
    finally:
        if wandb:
            _finish(wandb, run, crashed=crashed)
    return DONE if result.state == "complete" else STOPPED


def _finish(wandb: WandbLogger, run: RunDirectory, *, crashed: bool) -> None:
    """End the attempt's part of the W&B run, as the run's own files have it."""
    from harness.tracking.run_summary import objective_of, summary_of

    result = read_result(run)
    state = _end_of_run(run, result)
    wandb.summary(summary_of(result, run.metrics.rows(), objective_of(run), trial=read_trial(run), state=state))
    if state == "waiting" and not crashed:
        wandb.preempting()
    wandb.finish("failed" if crashed else "success")


def _end_of_run(run: RunDirectory, result: Result) -> State:
    """What the study will make of an attempt that has ended as it should."""
    trial = read_trial(run)
    return "pruned" if result.state == "waiting" and trial is not None and trial.given_up is not None else result.state


def _trunks(config: Config, run: RunDirectory) -> Trunks | None:
    """The trunks of a trial's study."""
    study = run.study
    if study is None or not run.relatives.exists():
        return None
    from harness.training.trunks import Trunks

    document = read_json(run.relatives)
    assert document is not None, "it exists"
    store = TrunkStore(
        study.trunks,
        neighbours=[other for other in study.path.parent.glob("*/trunks") if other != study.trunks],
        disk_bytes=int(document["disk_gb"] * 1e9),
        needed=lambda: _parents_of_unfinished(study),
    )
    trial = read_trial(run)
    relatives = tuple(_with_values(config, values) for values in document["relatives"])
    return Trunks(store, relatives, reserved_tokens=trial.tokens if trial else None)


def _parents_of_unfinished(study: StudyDirectory) -> set[str]:
    """The names of the runs whose trunks trials of the study are still to go on from."""
    unfinished = [run for run in study.trials() if read_result(run).state not in FINAL_STATES]
    parents = [trial.parent for run in unfinished if (trial := read_trial(run)) is not None]
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
