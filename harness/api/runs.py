"""`harness.train`, `evaluate`, `resume` and `run`: one run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from harness.config.errors import InputError, wrong_value
from harness.config.schema import Config
from harness.runs.directory import RunDirectory
from harness.runs.result import State

if TYPE_CHECKING:
    from harness.runs.metrics import Row
    from harness.runs.record import RunRecord
    from harness.training.stop_flag import StopFlag
    from harness.work.start_run import Attempted


def train(config: Config, *, directory: Path | str | None = None, progress: bool = True) -> Run:
    """Train one run in this process, as `harness train` does.

    A run that comes to a bad end is returned, with its `state` failed and its `reason`.

    Args:
        config: What to run, from `load`, or of another run or trial.
        directory: For the run's files, new or empty; default: a new one under runs/ ($HARNESS_RUNS).
        progress: Whether to show a bar (in notebooks and files: a line at every tenth) on stderr.

    Raises:
        InputError: For a configuration, data or a model that cannot be used; nothing is left of the run then.
        KeyboardInterrupt: After Ctrl-C (SIGTERM: SystemExit), when a checkpoint is saved; `resume` goes on from it. A second Ctrl-C does
            not wait for the checkpoint.
    """
    from harness.config.load import with_overrides
    from harness.config.validate import to_plain
    from harness.work.start_run import start_run

    if not isinstance(config, Config):
        raise InputError(f"train({config!r}): expected a configuration, e.g. train(load('experiment=cpt', …))")
    # The caller may have changed attributes: check them before the run starts.
    checked = with_overrides(to_plain(config), [], origin="config")
    _one_process(checked)
    place = None if directory is None else Path(directory)
    return _attempted(lambda stop: start_run(checked, directory=place, show_progress=progress, stop=stop))


def evaluate(what: str | Path, *overrides: str, directory: Path | str | None = None, progress: bool = True) -> Run:
    """Evaluate a model, or the weights that a run ended with, as `harness evaluate` does: a run of no step, whose `metrics` they are.

    Args:
        what: A model's directory or hub name; or a run: its directory, its name under runs/, or `STUDY/NUMBER`.
        overrides: Hydra's overrides; of a run, values alone. A model needs evaluation sets: `"data.validation.docs.path=docs.jsonl"`.
        directory: As of `train`.
        progress: As of `train`.

    Raises:
        InputError: For what cannot be evaluated; nothing is left of the run then.
        KeyboardInterrupt: As `train`.
    """
    from harness.work.evaluate import evaluation_of
    from harness.work.start_run import start_run

    evaluation = evaluation_of(str(what), list(overrides))
    _one_process(evaluation.config)
    place = None if directory is None else Path(directory)
    return _attempted(lambda stop: start_run(evaluation.config, label=evaluation.label, directory=place, show_progress=progress, stop=stop))


def resume(run: str | Path, *, progress: bool = True) -> Run:
    """Go on with a run from its last checkpoint, as `harness resume` does.

    Args:
        run: A run's directory, or its name under runs/.
        progress: As of `train`.

    Raises:
        InputError: For a run that does not exist, or a trial of a study, with which `sweep` goes on; and as `train`.
        KeyboardInterrupt: As `train`.
    """
    from harness.runs.directory import find_run
    from harness.runs.run_config import load_run_config
    from harness.work.start_run import continue_run

    found = find_run(str(run))
    _one_process(load_run_config(found))
    return _attempted(lambda stop: continue_run(found, show_progress=progress, stop=stop))


def run(name: str | Path) -> Run:
    """The run of this name under runs/, or in this directory; `STUDY/NUMBER` for a trial. Raises InputError where there is none."""
    from harness.runs.directory import find_run

    return Run(find_run(str(name)))


def _one_process(config: Config) -> None:
    """Refuse runs of several processes: the caller's threads and GPU do not survive a fork."""
    from harness.work.start_run import world_of

    trainer = config.trainer
    if trainer.devices * trainer.nodes > 1:
        problem = "from Python a run has one device; a file of this configuration has as many: harness train --config FILE"
        raise wrong_value("trainer.devices" if trainer.devices > 1 else "trainer.nodes", trainer.devices * trainer.nodes, problem)
    world_of(config)


def _attempted(attempt: Callable[[StopFlag], Attempted | None]) -> Run:
    """The run after an attempt, which signals stop cleanly; afterwards the caller's handlers are restored."""
    from harness.training.stop_flag import StopFlag

    # Before torch is loaded, if it is not yet; see `harness.cli.main`.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    stop = StopFlag()
    with stop.installed():
        done = attempt(stop)
    assert done is not None, "there is one rank, and it is this process"
    run = Run(done.run)
    if stop.signal is not None:
        if run.state == "waiting":
            print(f"stopped at step {run.step}; harness.resume({str(run.directory)!r}) goes on", file=sys.stderr)
        end_by(stop.signal)
    return run


def end_by(number: int) -> NoReturn:
    """Raise what the signal would have raised without a handler, so that the caller's program does not continue."""
    if number == signal.SIGTERM:
        raise SystemExit(128 + number)
    raise KeyboardInterrupt


class Run:
    """A run on disk: a single one, or a trial of a study. Each attribute is what its files say when it is asked for."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.state}>"

    @property
    def directory(self) -> Path:
        """Where config.yaml, metrics.jsonl, result.json and checkpoints are."""
        return self._directory.path

    @property
    def name(self) -> str:
        """What the command line calls it: the directory's name, or STUDY/NUMBER."""
        return self._directory.name

    @property
    def state(self) -> State:
        """waiting, running, complete, pruned or failed; a run whose process died without a word is waiting."""
        return self._record.state

    @property
    def reason(self) -> str | None:
        """Why it failed, was pruned or waits, in words."""
        return self._record.result.reason

    @property
    def objective(self) -> float | None:
        """The study's metric; None for a single run, which has no study to name one."""
        return self._record.result.objective

    @property
    def metrics(self) -> dict[str, float]:
        """The last logged values by their logged names, e.g. `val/docs/loss` (nats per token)."""
        return self._record.result.metrics

    @property
    def history(self) -> list[Row]:
        """A row for each logged step: step, tokens, lr, train/loss, tokens_per_second, and the evaluations where there were any."""
        return self._record.rows

    @property
    def config(self) -> Config:
        """The resolved configuration; `train` runs it again, `load("seed=1", config=…)` with another value."""
        from harness.runs.run_config import load_run_config

        return load_run_config(self._directory)

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self._record.result.step

    @property
    def tokens(self) -> int:
        """Tokens trained by this run's own attempts, padding not counted."""
        return self._record.result.tokens.trained

    @property
    def seconds(self) -> float:
        """Wall time of all attempts."""
        return self._record.result.seconds

    @property
    def _record(self) -> RunRecord:
        from harness.runs.record import load_run

        return load_run(self._directory)
